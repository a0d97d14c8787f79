//! App Runner, API version 2020-05-15.

mod config;
mod connector;
mod deployment;
pub mod platform;
mod scaling;
mod secret;
mod service;
mod spec;
mod tags;

use super::{ApiError, Operation};

/// The function of an operation.
pub fn operation(name: &str) -> Option<Operation> {
    Some(match name {
        "CreateService" => service::create,
        "UpdateService" => service::update,
        "DescribeService" => service::describe,
        "ListServices" => service::list,
        "DeleteService" => service::delete,
        "PauseService" => service::pause,
        "ResumeService" => service::resume,
        "StartDeployment" => service::start_deployment,
        "ListOperations" => service::list_operations,
        "CreateVpcConnector" => connector::create,
        "DescribeVpcConnector" => connector::describe,
        "ListVpcConnectors" => connector::list,
        "DeleteVpcConnector" => connector::delete,
        "CreateAutoScalingConfiguration" => scaling::create,
        "DescribeAutoScalingConfiguration" => scaling::describe,
        "ListAutoScalingConfigurations" => scaling::list,
        "DeleteAutoScalingConfiguration" => scaling::delete,
        "TagResource" => tags::tag,
        "UntagResource" => tags::untag,
        "ListTagsForResource" => tags::list,
        _ => return None,
    })
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new("InvalidRequestException", message)
}

fn invalid_state(message: impl Into<String>) -> ApiError {
    ApiError::new("InvalidStateException", message)
}

fn not_found(what: &str, arn: &str) -> ApiError {
    ApiError::new("ResourceNotFoundException", format!("{what} cannot be found: {arn}"))
}
