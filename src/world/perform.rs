//! Carries out one step: at most one mutating call, no decision. What exists already is taken only if it is ours; what
//! is gone already counts as deleted.

use jiff::Timestamp;

use crate::aws::ec2;
use crate::checks::Stage;
use crate::desired::ReplicationGroupSettings;
use crate::error::{Class, CloudError};
use crate::identity::{Arn, GroupId, Owner, RuleId};
use crate::journal::{Copied, Entry, Journal, Resource};
use crate::plan::made_since;
use crate::step::{CopyMode, Step};
use crate::upstash::{self, Upstash};

use super::journal::resource_key;
use super::long::{Endpoint, Scene};
use super::{CloudWorld, refused};

/// Gone already is deleted.
fn deleted(outcome: Result<(), CloudError>) -> Result<(), CloudError> {
    match outcome {
        Err(error) if error.class == Class::NotFound => Ok(()),
        other => other,
    }
}

impl CloudWorld {
    pub(super) async fn perform_step(
        &self,
        owner: &Owner,
        step: &Step,
        journal: &Journal,
        now: Timestamp,
    ) -> Result<Option<Entry>, CloudError> {
        match step {
            Step::Journal { expect, entry } => self.append(owner, *expect, entry, now).await.map(|()| None),
            Step::Claim { service, variables, expect } => {
                self.claim(owner, service, variables, *expect).await.map(|()| None)
            }
            Step::Release { service, expect } => self.release(owner, service, *expect).await.map(|()| None),
            Step::CreateUpstashDatabase { name, region, plan } => {
                self.create_database(owner, journal, name, region, plan.as_deref()).await
            }
            Step::DeleteUpstashDatabase { id, name } => self.delete_database(id, name).await,
            Step::CreateSubnetGroup { name, subnets } => self.create_subnet_group(owner, name, subnets).await,
            Step::DeleteSubnetGroup { name } => {
                deleted(self.aws.elasticache.delete_subnet_group(name).await)?;
                // Nothing observes subnet groups: this call is the only one that can say it.
                Ok(Some(Entry::Gone(Resource::SubnetGroup(name.clone()))))
            }
            Step::CreateReplicationGroup { id, subnet_group, settings } => {
                Box::pin(self.create_replication_group(owner, journal, id, subnet_group, settings)).await
            }
            Step::DeleteReplicationGroup { id } => {
                deleted(self.aws.elasticache.delete_replication_group(id).await).map(|()| None)
            }
            Step::AuthorizeIngress { group, source, port } => self.authorize(owner, group, source, *port).await,
            Step::RevokeIngress { group, rule } => deleted(self.aws.ec2.revoke(group, rule).await).map(|()| None),
            Step::CreateConnector { name, subnets, security_groups } => {
                self.create_connector(owner, name, subnets, security_groups).await
            }
            Step::DeleteConnector { arn } => deleted(self.aws.apprunner.delete_connector(arn).await).map(|()| None),
            Step::CreateEpochSecret { name, epoch, variable, store } => {
                self.create_epoch_secret(owner, journal, name, *epoch, variable, store).await
            }
            Step::DeleteSecret { name } => self.delete_secret(owner, name, journal).await,
            Step::PatchService(patch) => Box::pin(self.patch_service(owner, patch, journal)).await,
            Step::Copy { mode, .. } => self.run_copier(journal, *mode).await,
            Step::CountQuiet { migration, drained } => {
                self.long.copiers.count_quiet(migration, *drained).await.map(|()| None)
            }
            Step::RunChecks { stage } => self.run_checks(owner, journal, *stage).await,
        }
    }

    fn upstash(&self, operation: &str) -> Result<&Upstash, CloudError> {
        self.upstash.as_ref().ok_or_else(|| {
            let message =
                "no API key was given; name a Secret with email and apiKey in spec.store.upstash.apiKeySecretRef";
            CloudError::new(Class::Credentials, upstash::SERVICE, &format!("{operation} (not called)"), "", message)
        })
    }

    async fn create_database(
        &self,
        owner: &Owner,
        journal: &Journal,
        name: &str,
        region: &str,
        plan: Option<&str>,
    ) -> Result<Option<Entry>, CloudError> {
        let operation = "CreateDatabase";
        let upstash = self.upstash(operation)?;
        let resource = Resource::UpstashDatabase(name.to_owned());
        let Some(made) = journal.made.get(&resource) else {
            return Err(refused(operation, &format!("the journal does not say that database {name} is to be made")));
        };
        // What was listed before the call says nothing about what the call has made, also where its reply is lost.
        self.cache.databases.listed.clear();
        // No idempotency keys, and names need not be unique: after a lost reply the database may be there already.
        let same: Vec<_> = upstash.databases().await?.into_iter().filter(|found| found.name == name).collect();
        let database = match same.as_slice() {
            [] => upstash.create(name, region, plan).await?,
            [found] if made_since(found.created, made.intended) => upstash.database(&found.id).await?,
            _ => {
                let message = format!("a database that we did not make is called {name:?} already; looking again");
                return Err(CloudError::new(Class::Exists, upstash::SERVICE, operation, "", &message));
            }
        };
        self.cache.databases.listed.clear();
        if let Some(password) = &database.password {
            // With Credential Protection this answer was the only chance: it goes into the vault with the next line.
            self.keep(owner, password);
            self.memory().pending.insert(resource_key(&resource), password.clone());
        }
        Ok(Some(Entry::Made(resource, database.id)))
    }

    async fn delete_database(&self, id: &str, name: &str) -> Result<Option<Entry>, CloudError> {
        let operation = "DeleteDatabase";
        let upstash = self.upstash(operation)?;
        match upstash.database_without_credentials(id).await {
            // Deletion is immediate and for good: the id must still be the database that was meant.
            // One that is left over by its id has no other name here.
            Ok(found) if found.name != name && name != id => {
                return Err(refused(operation, &format!("database {id} is called {:?} now, not {name:?}", found.name)));
            }
            Ok(_) => deleted(upstash.delete(id).await)?,
            Err(error) => deleted(Err(error))?,
        }
        self.cache.databases.listed.clear();
        self.cache.databases.by_id.clear();
        Ok(None)
    }

    async fn create_subnet_group(
        &self,
        owner: &Owner,
        name: &str,
        subnets: &[String],
    ) -> Result<Option<Entry>, CloudError> {
        let made = Some(Entry::Made(Resource::SubnetGroup(name.to_owned()), name.to_owned()));
        let description = format!("SessionBackend {owner}");
        let created = self.aws.elasticache.create_subnet_group(name, &description, subnets, &owner.tags()).await;
        match created {
            Ok(()) => Ok(made),
            Err(error) if error.class == Class::Exists => {
                let arn = self.aws.elasticache.subnet_group(name).await?.arn;
                self.adopt(owner, arn, error).await.map(|()| made)
            }
            Err(error) => Err(error),
        }
    }

    async fn create_replication_group(
        &self,
        owner: &Owner,
        journal: &Journal,
        id: &str,
        subnet_group: &str,
        settings: &ReplicationGroupSettings,
    ) -> Result<Option<Entry>, CloudError> {
        let operation = "CreateReplicationGroup";
        let resource = Resource::ReplicationGroup(id.to_owned());
        // From the secret itself and not from memory: a token that is not written down yet is lost with this process.
        let held = self.journal_at(owner, journal.sequence, operation).await?;
        let token = held.vault.get(&resource_key(&resource)).cloned();
        let token = token.ok_or_else(|| refused(operation, &format!("the vault has no token for {id}")))?;
        let made = Some(Entry::Made(resource, id.to_owned()));
        let description = format!("Sessions of SessionBackend {owner}");
        let cache = &self.aws.elasticache;
        match cache.create_replication_group(id, &description, subnet_group, settings, &token, &owner.tags()).await {
            Ok(()) => Ok(made),
            Err(error) if error.class == Class::Exists => {
                let groups = cache.replication_groups().await?;
                let same = groups.into_iter().find(|group| group.replication_group_id.as_deref() == Some(id));
                self.adopt(owner, same.and_then(|group| group.arn), error).await.map(|()| made)
            }
            Err(error) => Err(error),
        }
    }

    /// Success where the ElastiCache resource that is in the way carries our tag, else what was in the way.
    async fn adopt(&self, owner: &Owner, arn: Option<String>, exists: CloudError) -> Result<(), CloudError> {
        let Some(arn) = arn else { return Err(exists) };
        let [(key, path), _] = owner.tags();
        if self.aws.elasticache.has_tag(&arn, &key, &path).await? { Ok(()) } else { Err(exists) }
    }

    async fn authorize(
        &self,
        owner: &Owner,
        group: &GroupId,
        source: &GroupId,
        port: u16,
    ) -> Result<Option<Entry>, CloudError> {
        let made = |rule: RuleId| Some(Entry::Made(Step::rule_name(group, source, port), rule.0));
        let description = format!("SessionBackend {}", owner.path());
        match self.aws.ec2.authorize(group, source, port, &description, &owner.tags()).await {
            Ok(Some(rule)) => return Ok(made(rule)),
            Ok(None) => {}
            Err(error) if error.class == Class::Exists => {}
            Err(error) => return Err(error),
        }
        // The rule is there and its id is not known: it is ours only if it carries our tag.
        let rules = self.aws.ec2.rules_of(std::slice::from_ref(&group.0)).await?;
        let [(key, path), _] = owner.tags();
        let rule = rules.into_iter().find(|rule| {
            let admits = rule.referenced_group_info.as_ref().and_then(|info| info.group_id.as_ref()) == Some(&source.0);
            let ports = (rule.from_port, rule.to_port) == (Some(i32::from(port)), Some(i32::from(port)));
            let ours = rule.tags.iter().flatten().any(|tag| tag.key() == Some(&key) && tag.value() == Some(&path));
            admits && ports && ours && rule.is_egress != Some(true)
        });
        let id = rule.and_then(|rule| rule.security_group_rule_id).map(RuleId);
        id.map(made).ok_or_else(|| {
            let message = format!("{group} admits {source} on port {port} by a rule that is not ours; observing again");
            CloudError::new(Class::Conflict, ec2::SERVICE, "AuthorizeSecurityGroupIngress", "", &message)
        })
    }

    async fn create_connector(
        &self,
        owner: &Owner,
        name: &str,
        subnets: &[String],
        security_groups: &[String],
    ) -> Result<Option<Entry>, CloudError> {
        let made = |arn: Arn| Some(Entry::Made(Resource::Connector(name.to_owned()), arn.0));
        // No token and no uniqueness of names: after a lost reply the connector may be there already.
        let listed = self.aws.apprunner.connectors().await?;
        let same = listed.into_iter().filter(|found| found.vpc_connector_name.as_deref() == Some(name));
        let [(key, path), _] = owner.tags();
        for arn in same.filter_map(|found| found.vpc_connector_arn).map(Arn) {
            if self.aws.apprunner.tags(&arn).await?.get(&key) == Some(&path) {
                return Ok(made(arn));
            }
        }
        self.aws.apprunner.create_connector(name, subnets, security_groups, &owner.tags()).await.map(made)
    }

    async fn run_copier(&self, journal: &Journal, mode: CopyMode) -> Result<Option<Entry>, CloudError> {
        let target = self.memory().target.clone();
        let job = self.copy_job(target.as_ref(), journal);
        let job = job.ok_or_else(|| refused("Copy", "no migration that copies is under way"))??;
        self.long.copiers.run(job, mode).await?;
        // Where the store that would show it is gone, only the journal can say that the other one was cleared.
        Ok(match mode {
            CopyMode::Clear { gone: Some(_) } => {
                let copied = journal.open_migration().and_then(|migration| migration.copied).unwrap_or_default();
                Some(Entry::Copied(Copied { cleared: true, ..copied }))
            }
            CopyMode::Clear { gone: None } | CopyMode::Withdraw | CopyMode::Follow | CopyMode::BothWays => None,
        })
    }

    async fn run_checks(&self, owner: &Owner, journal: &Journal, stage: Stage) -> Result<Option<Entry>, CloudError> {
        let (target, services) = {
            let memory = self.memory();
            (memory.target.clone(), memory.services.clone())
        };
        let target = target.ok_or_else(|| refused("RunChecks", "no spec has been seen yet"))?;
        let store = self.checked_store(journal, stage)?;
        let limits = store.as_ref().and_then(|store| Some(self.memory().stores.get(&store.store)?.limits));
        let scene = Scene {
            limits: limits.unwrap_or_default(),
            our_commands: self.copied_into(journal, store.as_ref()),
            owner: owner.clone(),
            stage,
            checks: target.checks,
            app: target.app,
            services,
            store,
            since: since(journal, stage),
        };
        self.long.checker.start(scene).await.map(|()| None)
    }

    /// Commands that the copy of the open migration sends to a store.
    fn copied_into(&self, journal: &Journal, store: Option<&Endpoint>) -> u64 {
        let copying = journal.open_migration().filter(|migration| migration.copies && migration.validated.is_none());
        let (Some(migration), Some(store)) = (copying, store) else { return 0 };
        let from = migration.from.as_ref().filter(|_| migration.to.id == store.store);
        let keys = from.and_then(|from| self.memory().stores.get(&from.id)?.keys);
        keys.map_or(0, crate::price::copying)
    }

    /// The store a run is about: the old one before the switch and after the way back, else the new one.
    fn checked_store(&self, journal: &Journal, stage: Stage) -> Result<Option<Endpoint>, CloudError> {
        let operation = "RunChecks";
        let record = match (journal.open_migration(), stage) {
            (Some(migration), Stage::Baseline | Stage::AfterRollback) => migration.from.as_ref(),
            (Some(migration), Stage::Target | Stage::AfterSwitch | Stage::Bake | Stage::Rest) => Some(&migration.to),
            (None, _) => {
                let settled = journal.settled.as_ref().filter(|settled| settled.store.is_redis());
                return settled.map(|settled| self.endpoint(journal, &settled.store, operation)).transpose();
            }
        };
        record.filter(|record| record.id.is_redis()).map(|record| self.frozen(record, operation)).transpose()
    }
}

/// Logs of a run count from here on.
fn since(journal: &Journal, stage: Stage) -> Option<Timestamp> {
    let migration = journal.open_migration()?;
    match stage {
        Stage::Baseline | Stage::Target | Stage::Rest => None,
        Stage::AfterSwitch | Stage::Bake => {
            let moves =
                migration.services.iter().filter_map(|moved| moved.forward.as_ref().or(moved.egress_moved.as_ref()));
            moves.map(|made| made.intended).min()
        }
        Stage::AfterRollback => migration.rollback.as_ref().map(|rollback| rollback.at),
    }
}
