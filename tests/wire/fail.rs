//! Every way a call can fail, as the clients hear it: one class each, the vendor's words, never a wrong reading.

use pretty_assertions::assert_eq;
use serde_json::json;
use sessionbackend::engine::World as _;
use sessionbackend::error::{Class, CloudError};
use sessionbackend::journal::{Entry, Resource};
use sessionbackend::observed::Reading;
use sessionbackend::step::Step;

use super::ground::{Hand, Sandbox, secret};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_call_has_one_class_whatever_the_protocol() {
    let sandbox = Sandbox::up();
    let aws = sandbox.aws().await;
    let upstash = sandbox.upstash();
    let rows = [
        ("throttle", Class::Throttled),
        ("500", Class::Transient),
        ("lost", Class::Transient),
        ("denied", Class::Denied),
        ("expired-credentials", Class::Credentials),
    ];
    for (fault, expected) in rows {
        sandbox.no_faults();
        sandbox.fault(&json!({ "call": fault }));
        let answers: [(&str, Result<(), CloudError>); 7] = [
            ("apprunner", aws.apprunner.services().await.map(drop)),
            ("ec2", aws.ec2.rules_of(&["sg-1".into()]).await.map(drop)),
            ("elasticache", aws.elasticache.replication_groups().await.map(drop)),
            ("iam", aws.iam.may("arn:aws:iam::123456789012:role/x", "a:B", &["*".into()]).await.map(drop)),
            ("secretsmanager", aws.secretsmanager.get("x").await.map(drop)),
            ("sts", aws.sts.account().await.map(drop)),
            ("upstash", upstash.databases().await.map(drop)),
        ];
        for (service, answer) in answers {
            let error = answer.unwrap_err();
            // Upstash knows no expired session; its key is wrong or it is not.
            assert_eq!(error.class, expected, "{fault} {service}: {error}");
        }
    }
    sandbox.no_faults();
    sandbox.fault(&json!({ "service": "apprunner", "call": "not-subscribed" }));
    assert_eq!(aws.apprunner.services().await.unwrap_err().class, Class::Subscription);
    sandbox.no_faults();
    let error = aws.secretsmanager.get("x").await.unwrap_err();
    assert_eq!(error.class, Class::NotFound);
    assert!(error.request_id.is_some(), "{error}");
    assert_eq!(
        aws.apprunner.service(&"arn:aws:apprunner:us-east-1:1:service/x/y".into()).await.unwrap_err().class,
        Class::NotFound
    );
    assert_eq!(upstash.database("00000000-0000-4000-8000-000000000000").await.unwrap_err().class, Class::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_is_tried_again_and_a_write_is_not() {
    let sandbox = Sandbox::up();
    let aws = sandbox.aws().await;
    sandbox.fault(&json!({ "service": "sts", "call": "500", "count": 2 }));
    aws.sts.account().await.unwrap();
    sandbox.fault(&json!({ "service": "secretsmanager", "operation": "CreateSecret", "call": "500", "count": 1 }));
    let error = aws.secretsmanager.create("a/b", "", &secret("value"), None, &[]).await.unwrap_err();
    assert_eq!(error.class, Class::Transient);
    aws.secretsmanager.create("a/b", "", &secret("value"), None, &[]).await.unwrap();
    let again = aws.secretsmanager.create("a/b", "", &secret("value"), None, &[]).await.unwrap_err();
    assert_eq!(again.class, Class::Exists);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_writers_of_a_journal_never_both_write_the_same_line() {
    let sandbox = Sandbox::up();
    let (one, two) = (Hand::new(&sandbox, "shared").await, Hand::new(&sandbox, "shared").await);
    let line = |name: &str| Entry::Intend(Resource::UpstashDatabase(name.into()));
    for sequence in 0..4 {
        let step = |name: &str| Step::Journal { expect: sequence, entry: line(name) };
        // The same entry: only the nonce tells the writers apart.
        let name = format!("database-{sequence}");
        let (first, second) = tokio::join!(one.perform(step(&name)), two.perform(step(&name)));
        let refused: Vec<_> = [&first, &second].into_iter().filter_map(|outcome| outcome.as_ref().err()).collect();
        assert_eq!(refused.len(), 1, "{first:?} {second:?}");
        assert_eq!(refused[0].class, Class::Conflict, "{}", refused[0]);
        assert_eq!(one.journal().await.sequence, sequence + 1);
    }
    assert_eq!(one.journal().await, two.journal().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_line_whose_reply_is_lost_is_found_again_by_its_nonce() {
    let sandbox = Sandbox::up();
    let hand = Hand::new(&sandbox, "lost").await;
    let line = |name: &str| Entry::Intend(Resource::UpstashDatabase(name.into()));
    for (sequence, operation) in [(1, "CreateSecret"), (2, "PutSecretValue")] {
        let fault = json!({ "service": "secretsmanager", "operation": operation, "call": "lost-reply", "count": 1 });
        sandbox.fault(&fault);
        hand.write(line(operation)).await.unwrap();
        assert_eq!(hand.journal().await.sequence, sequence);
        assert_eq!(sandbox.calls(operation), 1);
    }
    // One that was not executed is not taken for written.
    sandbox.fault(&json!({ "service": "secretsmanager", "operation": "PutSecretValue", "call": "500", "count": 1 }));
    let error = hand.write(line("never")).await.unwrap_err();
    assert!(error.class.is_ambiguous(), "{error}");
    assert_eq!(hand.journal().await.sequence, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_journal_than_the_one_known_is_no_reading() {
    let sandbox = Sandbox::up();
    let hand = Hand::new(&sandbox, "stale").await;
    for name in ["a", "b"] {
        hand.write(Entry::Intend(Resource::UpstashDatabase(name.into()))).await.unwrap();
    }
    sandbox.fault(&json!({ "service": "secretsmanager", "operation": "GetSecretValue", "call": "stale", "count": 1 }));
    let stale = hand.world.journal(&hand.owner).await;
    assert!(matches!(&stale, Reading::Unknown(error) if error.class == Class::Transient), "{stale:?}");
    assert_eq!(hand.journal().await.sequence, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_journal_is_an_absence_and_comes_back_with_its_content() {
    let sandbox = Sandbox::up();
    let hand = Hand::new(&sandbox, "again").await;
    let resource = Resource::UpstashDatabase("kept".into());
    hand.write(Entry::Intend(resource.clone())).await.unwrap();
    hand.perform(Step::DeleteSecret { name: hand.owner.journal_secret() }).await.unwrap();
    assert_eq!(hand.world.journal(&hand.owner).await, Reading::Absent);
    let refused = hand.write(Entry::Retry).await.unwrap_err();
    assert_eq!(refused.class, Class::Conflict, "{refused}");
    let journal = hand.journal().await;
    assert!(journal.made.contains_key(&resource) && journal.sequence == 1, "{journal:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_could_not_be_looked_up_is_not_taken_for_another() {
    let sandbox = Sandbox::up();
    let by_hand = super::ground::ByHand::make(&sandbox);
    let hand = Hand::new(&sandbox, "blind").await;
    let desired = super::serve::present(super::serve::target(&by_hand));
    let journal = hand.journal().await;
    sandbox.fault(&json!({ "service": "elasticache", "operation": "DescribeReplicationGroups", "call": "denied" }));
    let observed = hand.world.observe(&hand.owner, &desired, &journal).await;
    assert!(!observed.unlisted.is_empty());
    assert!(
        matches!(&observed.source, Reading::Unknown(error) if error.class == Class::Denied),
        "{:?}",
        observed.source
    );
    sandbox.no_faults();
    sandbox.fault(&json!({ "service": "apprunner", "operation": "ListServices", "call": "throttle" }));
    let observed = hand.world.observe(&hand.owner, &desired, &journal).await;
    let service = &observed.services["web-app"];
    assert!(matches!(service, Reading::Unknown(error) if error.class == Class::Throttled), "{service:?}");
    sandbox.no_faults();
    // Two databases of one name: which one is meant is for the user to say.
    for _ in 0..2 {
        let input = json!({ "database_name": "liberty", "platform": "aws", "primary_region": "us-east-1" });
        sandbox.call("upstash", "CreateDatabase", &input);
    }
    let fresh = Hand::new(&sandbox, "blind").await;
    let observed = fresh.world.observe(&fresh.owner, &desired, &journal).await;
    let ambiguous = |error: &CloudError| error.class == Class::Rejected && error.message.starts_with("ambiguous");
    assert!(matches!(&observed.target, Reading::Unknown(error) if ambiguous(error)), "{:?}", observed.target);
}
