//! The stories an operator may be killed in: what a person writes, and how one sees that they are over.

use std::fmt;

use control_plane::ControlPlane;
use serde_json::{Value, json};

use super::super::ground::{NAME, SERVICE, created, in_vpc, object, through_vpc};
use super::boundary::Kill;
use super::world::World;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Story {
    /// A service without a store gets one in a VPC, with connector and rule.
    Create,
    /// From ElastiCache, wired by hand, to Upstash; connector and rule are retired.
    Migrate,
    /// The same, but a check fails after the switch.
    FailingMigrate,
    /// The object goes, with everything that was made for it.
    Delete,
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Migrate => "migrate",
            Self::FailingMigrate => "failing-migrate",
            Self::Delete => "delete",
        })
    }
}

impl Story {
    /// The world at the beginning of the story, with an operator that is ended at `aim`.
    pub(super) fn begin(self, plane: &'static ControlPlane, aim: Option<&Kill>) -> World {
        let moves = matches!(self, Self::Migrate | Self::FailingMigrate);
        let mut world = World::make(plane, moves);
        let written = self.written(&world);
        match self {
            Self::Create | Self::Migrate | Self::FailingMigrate => {
                world.begin(aim);
                world.ground.apply(&written);
            }
            Self::Delete => {
                world.begin(None);
                world.ground.apply(&written);
                world.ground.until(NAME, "it is made", |object| ready(object, "Ready"));
                world.end();
                // What somebody still uses is not removed.
                world.ground.sandbox.call("apprunner", "DeleteService", &json!({ "ServiceArn": world.arn }));
                world.ground.sandbox.call_until("apprunner", "ListServices", &json!({}), |listed| {
                    listed["ServiceSummaryList"].as_array().is_none_or(Vec::is_empty)
                });
                world.ground.kubectl(&format!("delete sb {NAME} --wait=false"));
                world.begin(aim);
            }
        }
        world
    }

    fn written(self, world: &World) -> Value {
        match self {
            Self::Create => object(NAME, &in_vpc(&world.network), &through_vpc(&world.network)),
            Self::Delete => {
                let mut written = object(NAME, &in_vpc(&world.network), &through_vpc(&world.network));
                written["spec"]["deletionPolicy"] = json!("Delete");
                written
            }
            Self::Migrate | Self::FailingMigrate => {
                let by_hand = world.by_hand.as_ref().unwrap();
                let mut differs = json!({
                    "services": [{ "name": SERVICE, "egress": { "type": "Default" } }],
                    "migration": { "retire": { "alsoRemove": [
                        { "vpcConnectorArn": by_hand.connector }, { "securityGroupRuleId": by_hand.rule },
                    ]}},
                });
                if self == Self::FailingMigrate {
                    let old = json!({ "path": "/", "json": { "env.REDIS_URL": by_hand.url } });
                    differs["checks"] = json!({ "extra": [{ "name": "on-the-old-store", "http": old }] });
                }
                object(NAME, &created("web-sessions"), &differs)
            }
        }
    }

    /// Whether the object says that the story is over.
    pub(super) fn is_over(self, object: Option<&Value>) -> bool {
        match self {
            Self::Create | Self::Migrate => object.is_some_and(|object| ready(object, "Ready")),
            Self::FailingMigrate => object.is_some_and(|object| object["status"]["phase"] == "RolledBack"),
            Self::Delete => object.is_none(),
        }
    }
}

fn ready(object: &Value, phase: &str) -> bool {
    let status = &object["status"];
    status["phase"] == phase && status["summary"]["checks"].as_str().is_some_and(|checks| !checks.is_empty())
}
