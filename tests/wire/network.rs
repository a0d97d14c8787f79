//! Connectors, rules, subnet groups and replication groups of ours: made once, recognised, removed.

use pretty_assertions::assert_eq;
use serde_json::json;
use sessionbackend::desired::{ReplicationGroupRef, ReplicationGroupSettings, RulesPolicy, StoreSpec};
use sessionbackend::engine::World as _;
use sessionbackend::error::Class;
use sessionbackend::identity::{Arn, RuleId, StoreId};
use sessionbackend::journal::{Entry, Resource};
use sessionbackend::observed::{Placement, Reading, StoreStatus};
use sessionbackend::step::Step;

use super::ground::{ByHand, Hand, Sandbox};
use super::serve::{present, target};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_in_a_vpc_with_its_connector_and_rule_is_made_and_removed() {
    let sandbox = Sandbox::up();
    let by_hand = ByHand::make(&sandbox);
    let hand = Hand::new(&sandbox, "audio").await;
    let settings = ReplicationGroupSettings {
        node_type: "cache.t4g.small".into(),
        replicas: 1,
        subnets: by_hand.subnets.clone(),
        security_groups: vec![by_hand.cache_group.clone()],
    };
    let mut wanted = target(&by_hand);
    wanted.store = StoreSpec::ReplicationGroup {
        group: ReplicationGroupRef::Create(settings.clone()),
        rules: RulesPolicy::Managed,
        credentials: false,
    };
    let desired = present(wanted);

    let subnet_group = hand.owner.short_name("subnets");
    let subnets = Step::CreateSubnetGroup { name: subnet_group.clone(), subnets: by_hand.subnets.clone() };
    let made = hand.perform(subnets.clone()).await.unwrap();
    assert_eq!(hand.perform(subnets).await.unwrap(), made, "ours by its tag");
    let foreign = Step::CreateSubnetGroup { name: "cache".into(), subnets: by_hand.subnets.clone() };
    assert_eq!(hand.perform(foreign).await.unwrap_err().class, Class::Exists, "the user's own is not taken");

    let id = hand.owner.short_name("cache");
    let create = || Step::CreateReplicationGroup {
        id: id.clone(),
        subnet_group: subnet_group.clone(),
        settings: settings.clone(),
    };
    let resource = Resource::ReplicationGroup(id.clone());
    let refused = hand.perform(create()).await.unwrap_err();
    assert_eq!(refused.class, Class::Conflict, "no token in the vault yet: {refused}");
    hand.write(Entry::Intend(resource.clone())).await.unwrap();
    assert_eq!(hand.act(create()).await, Entry::Made(resource, id.clone()));
    hand.perform(create()).await.unwrap();
    assert_eq!(sandbox.calls("CreateReplicationGroup"), 3, "by hand, ours, and one that was refused");

    let store = loop {
        let journal = hand.journal().await;
        let observed = hand.world.observe(&hand.owner, &desired, &journal).await;
        let store = observed.target.present().unwrap().clone();
        match store.status {
            StoreStatus::Creating => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
            _ => break store,
        }
    };
    assert_eq!(store.status, StoreStatus::Available);
    assert_eq!(store.id, StoreId::ReplicationGroup(id.clone()));
    assert!(store.credential.is_some(), "its token is in the vault and nowhere else");
    let address = store.address.clone().unwrap();
    assert!(address.tls && address.host.ends_with(".cache.amazonaws.com"), "{address:?}");
    let groups = vec![by_hand.cache_group.as_str().into()];
    assert_eq!(store.placement, Placement::Vpc { vpc: by_hand.vpc.clone(), groups });

    connector_and_rule(&sandbox, &by_hand, &hand, &desired).await;

    let in_use = hand.perform(Step::DeleteSubnetGroup { name: subnet_group.clone() }).await.unwrap_err();
    assert_eq!(in_use.class, Class::Conflict, "{in_use}");
    hand.perform(Step::DeleteReplicationGroup { id: id.clone() }).await.unwrap();
    let which = json!({});
    sandbox.call_until("elasticache", "DescribeReplicationGroups", &which, |answer| {
        answer["ReplicationGroups"].as_array().is_some_and(|groups| groups.len() == 1)
    });
    hand.perform(Step::DeleteReplicationGroup { id }).await.unwrap();
    let gone = hand.perform(Step::DeleteSubnetGroup { name: subnet_group.clone() }).await.unwrap();
    assert_eq!(gone, Some(Entry::Gone(Resource::SubnetGroup(subnet_group))));
}

async fn connector_and_rule(
    sandbox: &Sandbox,
    by_hand: &ByHand,
    hand: &Hand,
    desired: &sessionbackend::desired::Desired,
) {
    let group = json!({ "GroupName": "audio", "Description": "audio", "VpcId": by_hand.vpc });
    let group = super::ground::string(&sandbox.call("ec2", "CreateSecurityGroup", &group), "/GroupId");
    let name = hand.owner.short_name("vpc0");
    let create = Step::CreateConnector {
        name: name.clone(),
        subnets: by_hand.subnets.clone(),
        security_groups: vec![group.clone()],
    };
    hand.write(Entry::Intend(Resource::Connector(name.clone()))).await.unwrap();
    let Entry::Made(_, arn) = hand.act(create.clone()).await else { panic!("not made") };
    assert_eq!(hand.perform(create).await.unwrap(), Some(Entry::Made(Resource::Connector(name), arn.clone())));
    assert_eq!(sandbox.calls("CreateVpcConnector"), 2, "by hand and ours");

    let admit = Step::AuthorizeIngress {
        group: by_hand.cache_group.as_str().into(),
        source: group.as_str().into(),
        port: 6379,
    };
    let Entry::Made(_, rule) = hand.act(admit.clone()).await else { panic!("not made") };
    let again = hand.perform(admit).await.unwrap();
    assert!(matches!(&again, Some(Entry::Made(_, id)) if *id == rule), "a duplicate is the rule itself: {again:?}");
    let foreign = Step::AuthorizeIngress {
        group: by_hand.cache_group.as_str().into(),
        source: by_hand.app_group.as_str().into(),
        port: 6379,
    };
    assert_eq!(hand.perform(foreign).await.unwrap_err().class, Class::Conflict, "a rule made by hand is not taken");

    let journal = hand.journal().await;
    let observed = hand.world.observe(&hand.owner, desired, &journal).await;
    let connector = observed.connectors[&Arn(arn.clone())].present().unwrap();
    assert_eq!(connector.ours, Some(true), "{connector:?}");
    assert!(observed.rules[&RuleId(rule.clone())].present().unwrap().ours);

    let in_use = hand.perform(Step::DeleteConnector { arn: by_hand.connector.as_str().into() }).await.unwrap_err();
    assert_eq!(in_use.class, Class::Conflict, "{in_use}");
    let revoke = Step::RevokeIngress { group: by_hand.cache_group.as_str().into(), rule: RuleId(rule.clone()) };
    hand.perform(revoke.clone()).await.unwrap();
    hand.perform(revoke).await.unwrap();
    let delete = Step::DeleteConnector { arn: Arn(arn.clone()) };
    hand.perform(delete.clone()).await.unwrap();
    hand.perform(delete).await.unwrap();
    let observed = hand.world.observe(&hand.owner, desired, &hand.journal().await).await;
    assert_eq!(observed.connectors[&Arn(arn)], Reading::Absent);
    assert_eq!(observed.rules[&RuleId(rule)], Reading::Absent);
}
