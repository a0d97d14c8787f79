//! `spec.env`: how the services are told where the store is.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::text::VariableName;

/// CEL has no variables here: the list of the four names stands there twice.
const DISTINCT_NAMES: &str = "!has(self.names) || \
    [has(self.names.host) ? self.names.host : (self.format == 'EndpointPortTls' ? 'REDIS_ENDPOINT' : 'REDIS_HOST'), \
     has(self.names.port) ? self.names.port : 'REDIS_PORT', \
     has(self.names.tls) ? self.names.tls : 'REDIS_TLS', \
     has(self.names.password) ? self.names.password : 'REDIS_PASSWORD'].all(a, \
    [has(self.names.host) ? self.names.host : (self.format == 'EndpointPortTls' ? 'REDIS_ENDPOINT' : 'REDIS_HOST'), \
     has(self.names.port) ? self.names.port : 'REDIS_PORT', \
     has(self.names.tls) ? self.names.tls : 'REDIS_TLS', \
     has(self.names.password) ? self.names.password : 'REDIS_PASSWORD'].exists_one(b, a == b))";

/// What the manifest can say and this version cannot do yet is refused by name: a field that is silently ignored is a promise
/// broken.
pub(super) const NO_CONFIG_FILE: &str =
    "is ConfigFile, which this version cannot wait for; set ConfigurationSource=API on the service and write Operator";
pub(super) const NO_EXTERNAL_WRITER: &str =
    "is External, which this version cannot wait for; let the other tool ignore our variables and write Operator";

/// How the services are told.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(self.format == 'Template') == has(self.template)")
        .message("template goes with format Template; give both, or neither"),
    validation = Rule::new("!has(self.celery) || self.format == 'Celery'")
        .message("goes with format Celery; remove it, or use that format")
        .field_path(".celery"),
    validation = Rule::new("!has(self.names) || self.format != 'Template'")
        .message("has no meaning with format Template, whose variables are named in the template; remove it")
        .field_path(".names"),
    validation = Rule::new("!has(self.names) || !has(self.names.url) || self.format in ['Url', 'UrlImplicitTls', 'Celery', 'Template']")
        .message("goes with the formats Url, UrlImplicitTls and Celery; remove it, or name host, port, tls and password")
        .field_path(".names.url"),
    validation = Rule::new("!has(self.names) || !(has(self.names.host) || has(self.names.port) || has(self.names.tls) || has(self.names.password)) || self.format in ['EndpointPortTls', 'HostPortPassword', 'Template']")
        .message("host, port, tls and password go with the formats EndpointPortTls and HostPortPassword; remove them, or name url")
        .field_path(".names"),
    validation = Rule::new("!has(self.celery) || !has(self.celery.variables) || !((has(self.names) && has(self.names.url) ? self.names.url : 'REDIS_URL') in self.celery.variables)")
        .message("lists the variable that has the URL anyway; remove it")
        .field_path(".celery.variables"),
    validation = Rule::new(DISTINCT_NAMES)
        .message("gives two meanings to one variable; name each variable once")
        .field_path(".names")
)]
pub struct EnvSpec {
    /// Which variables the app reads.
    /// Url: REDIS_URL. UrlImplicitTls: REDIS_URL with redis:// although Upstash speaks TLS. Celery: REDIS_URL and the broker and result variables.
    /// EndpointPortTls: REDIS_ENDPOINT, REDIS_PORT, REDIS_TLS, REDIS_PASSWORD. HostPortPassword: REDIS_HOST, REDIS_PORT, REDIS_PASSWORD, REDIS_TLS. Template: your own.
    pub format: Format,
    /// Other names for the variables of the format.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub names: Option<Names>,
    /// The variables of format Template; placeholders {url} {host} {port} {user} {password} {tls} {db}.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "templates")]
    #[x_kube(
        validation = Rule::new("self.all(name, name.matches('^[A-Za-z_][A-Za-z0-9_]*$') && name.size() <= 200 && name != 'PORT' && !name.startsWith('AWSAPPRUNNER'))")
            .message("has a name that is none for a variable; use letters, digits and underscores, no digit first, and neither PORT nor AWSAPPRUNNER… (reserved by App Runner)"),
        validation = Rule::new("self.exists(name, self[name].contains('{url}') || self[name].contains('{host}'))")
            .message("has no variable with {url} or {host}, so the app would not learn where the store is; add one")
    )]
    pub template: Option<BTreeMap<String, String>>,
    /// Particulars of format Celery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub celery: Option<Celery>,
    /// Who writes the variables. Operator: we do. ConfigFile: apprunner.yaml in the source repository. External: Terraform, a pipeline. Default: Operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(
        validation = Rule::new("self != 'ConfigFile'").message(NO_CONFIG_FILE),
        validation = Rule::new("self != 'External'").message(NO_EXTERNAL_WRITER)
    )]
    pub writer: Option<Writer>,
    /// How values with a password are delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secrets: Option<Secrets>,
    /// Whether a variable we did not write is taken over. IfServingFrom: only if its value is the store we come from. Default: IfServingFrom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub takeover: Option<Takeover>,
}

fn templates(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "minProperties": 1,
        "maxProperties": 20,
        "additionalProperties": {
            "type": "string",
            "maxLength": 1024,
            "x-kubernetes-validations": [{
                "rule": "self.matches('^([^{}]|[{][{]|[}][}]|[{](url|host|port|user|password|tls|db)[}])*$')",
                "message": "has a placeholder that is unknown or not closed; use {url}, {host}, {port}, {user}, {password}, {tls} or {db}, and write {{ or }} for a brace itself",
            }],
        },
    })
}

/// Which variables the app reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Format {
    /// `REDIS_URL`.
    Url,
    /// `REDIS_URL` with `redis://`; the app turns TLS on for Upstash.
    UrlImplicitTls,
    /// As Url, for broker and results too.
    Celery,
    /// `REDIS_ENDPOINT` and its kin.
    EndpointPortTls,
    /// `REDIS_HOST` and its kin.
    HostPortPassword,
    /// The user's own.
    Template,
}

/// Other names for the variables of a format.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Names {
    /// Instead of REDIS_URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<VariableName>,
    /// Instead of REDIS_ENDPOINT or REDIS_HOST.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<VariableName>,
    /// Instead of REDIS_PORT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<VariableName>,
    /// Instead of REDIS_TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<VariableName>,
    /// Instead of REDIS_PASSWORD.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<VariableName>,
}

/// Particulars of format Celery.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Celery {
    /// ssl_cert_reqs in the URL. Omit: the app adds it itself. Default: Omit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssl_cert_reqs: Option<SslCertReqs>,
    /// Variables that get the same URL even where they are absent now. CELERY_BROKER_URL and CELERY_RESULT_BACKEND are followed where present without being listed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    #[x_kube(validation = Rule::new("self.all(a, self.exists_one(b, a == b))")
        .message("lists a variable twice; list each variable once"))]
    pub variables: Vec<VariableName>,
}

/// `ssl_cert_reqs` in a Celery URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SslCertReqs {
    /// Not written.
    Omit,
    /// `required`.
    Required,
    /// `none`: the certificate is not verified.
    None,
}

/// Who writes the variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Writer {
    /// We do, by UpdateService.
    Operator,
    /// `apprunner.yaml` in the source repository.
    ConfigFile,
    /// Terraform, CloudFormation, a pipeline.
    External,
}

/// How values with a password are delivered.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Secrets {
    /// SecretsManager: by reference. PlainText: in the variable, readable by whoever may describe the service. Default: SecretsManager.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self != 'ParameterStore'")
        .message("is ParameterStore, which this version cannot write; write SecretsManager"))]
    pub provider: Option<SecretProvider>,
    /// Verify: that the instance role may read them is checked. Manage: one inline policy of ours is added. Default: Verify.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self != 'Manage'")
        .message("is Manage, but this version changes no role; write Verify and attach the policy that `plan` prints"))]
    pub access: Option<SecretAccess>,
}

/// Where values with a password are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SecretProvider {
    /// AWS Secrets Manager.
    SecretsManager,
    /// AWS Systems Manager Parameter Store.
    ParameterStore,
    /// Nowhere: in the variable itself.
    PlainText,
}

/// Who sees to it that the instance role may read the secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SecretAccess {
    /// You; it is checked.
    Verify,
    /// We, by one inline policy.
    Manage,
}

/// Whether a variable we did not write is taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Takeover {
    /// Only if its value is the store we come from.
    IfServingFrom,
    /// Yes.
    Always,
    /// No.
    Never,
}
