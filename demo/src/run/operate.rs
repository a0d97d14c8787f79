//! The move as a user of a cluster sees it: an object over the store in use, Ready; the same object edited; `kubectl` watching
//! until it is Ready again or back.

use std::time::Duration;

use tokio::sync::mpsc;

use super::{Error, PATIENCE, RunArgs, moments};
use crate::cluster::{Cluster, Controller, NAMESPACE};
use crate::manifest;
use crate::product::{Checked, Product, Status};
use crate::terminal::Terminal;

/// A cluster with the controller at work.
pub(super) struct Operation<'a> {
    cluster: Cluster<'a>,
    controller: Controller,
    /// The object, edited to move, with its Secret.
    edited: String,
    tell: mpsc::UnboundedSender<String>,
    lines: mpsc::UnboundedReceiver<String>,
}

impl<'a> Operation<'a> {
    /// A control plane with the controller, and the object over the store in use, Ready.
    pub(super) async fn prepare(
        args: &RunArgs,
        terminal: &Terminal,
        product: &Product<'a>,
        token: &str,
    ) -> Result<Operation<'a>, Error> {
        let Product { sandbox, vantage, binary, manifest, namespace: _ } = product;
        terminal.say("cluster", "a control plane is started; definition and permissions of manifests/ are installed");
        let given = args.kubeconfig.clone();
        let cluster = Cluster::install(sandbox, vantage.clone(), binary.clone(), &args.dir, given).await?;
        let (tell, lines) = mpsc::unbounded_channel();
        let controller = cluster.start(&tell)?;
        let secret = manifest::secret("liberty-redis", &[("username", "default"), ("password", token)]);
        cluster.apply(&format!("{secret}\n---\n{}", manifest::ADOPTED), Some(NAMESPACE)).await?;
        terminal.say("kubectl", "│ kubectl apply -f elasticache.yaml && kubectl wait --for=condition=Ready …");
        cluster.wait("condition=Ready", PATIENCE).await?;
        for line in cluster.kubectl(&format!("-n {NAMESPACE} get sessionbackends -o wide")).await?.lines() {
            terminal.say("kubectl", &format!("│ {line}"));
        }
        let edited = std::fs::read_to_string(manifest)?;
        Ok(Self { cluster, controller, edited, tell, lines })
    }

    /// Edits the object and watches it to the end of the move; the controller is killed before as often and as soon as the
    /// arguments say. The end is what `kubectl wait` says: 0 Ready, 3 rolled back, in the exit codes of `apply`.
    pub(super) async fn carry_out(
        &mut self,
        args: &RunArgs,
        terminal: &Terminal,
        kills: &mut u32,
        checked: &mut Checked,
    ) -> Result<Option<i32>, Error> {
        // What was checked before the edit is no part of the move.
        while self.lines.try_recv().is_ok() {}
        let Self { cluster, controller, edited, tell, lines } = self;
        let _events = cluster
            .watch("get events --watch-only -o custom-columns=E:.type,R:.reason,M:.message --no-headers", tell)?;
        cluster.apply(edited, Some(NAMESPACE)).await?;
        let _table = cluster.watch("get sessionbackends --watch", tell)?;
        let (ready, back) =
            (cluster.wait("condition=Ready", PATIENCE), cluster.wait("jsonpath={.status.phase}=RolledBack", PATIENCE));
        let (mut ready, mut back) = (Box::pin(ready), Box::pin(back));
        let mut moments = moments(args);
        let mut next = Box::pin(tokio::time::sleep(moments()));
        let mut told = String::new();
        let mut tell_once = |line: &str| {
            if is_news(line, &mut told) {
                terminal.say("kubectl", &format!("│ {line}"));
            }
        };
        let exit = loop {
            tokio::select! {
                Some(line) = lines.recv() => {
                    checked.hear(&format!("  {line}"));
                    tell_once(&line);
                }
                () = &mut next, if *kills < args.kills => {
                    controller.kill().await?;
                    *kills += 1;
                    terminal.say("kill -9", &format!("the controller (seed {}); it is started again", args.seed));
                    *controller = cluster.start(tell)?;
                    next = Box::pin(tokio::time::sleep(moments()));
                }
                ended = &mut ready => { ended?; break 0 }
                ended = &mut back => { ended?; break 3 }
            }
        };
        // What `kubectl wait` says must be true when it says it.
        let object = cluster.object().await?;
        let status = &object["status"];
        let phase = if exit == 0 { "Ready" } else { "RolledBack" };
        let is_true = status["phase"] == phase && status["observedGeneration"] == object["metadata"]["generation"];
        terminal.say("kubectl", &format!("│ wait: {phase}{}", if is_true { "" } else { ", which is not so" }));
        // The last lines of what it watched are on their way.
        while let Ok(Some(line)) = tokio::time::timeout(Duration::from_millis(500), lines.recv()).await {
            checked.hear(&format!("  {line}"));
            tell_once(&line);
        }
        cluster.record().await?;
        Ok(is_true.then_some(exit))
    }

    /// What the object says about itself.
    pub(super) async fn status(&self) -> Result<Status, Error> {
        Ok(Status::read(&self.cluster.object().await?))
    }
}

/// Whether a line says something that the one before it did not, the age at its end aside: the table is printed again whenever
/// anything of the object is written, also what none of its columns shows.
fn is_news(line: &str, told: &mut String) -> bool {
    let row = line.trim_end().rsplit_once(' ').map_or(line, |(row, _age)| row.trim_end());
    if row == told {
        return false;
    }
    row.clone_into(told);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_only_grew_older_is_no_news() {
        let mut told = String::new();
        assert!(is_news("liberty-social   Upstash liberty   Checking   False   2/2      19s", &mut told));
        assert!(!is_news("liberty-social   Upstash liberty   Checking   False   2/2      20s", &mut told));
        assert!(is_news("liberty-social   Upstash liberty   Checking   False   6/6      20s", &mut told));
    }
}
