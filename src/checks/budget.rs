//! Whether what the services may need fits what the store gives: connections while a deployment doubles the instances
//! (cloud-API fact: App Runner starts new instances beside the old ones), and commands until the quota begins anew.
//! Pure arithmetic; nothing is dialled. A figure nobody knows is a reason to skip, never a guess.

use super::{BudgetCheck, CommandBudget, ConnectionBudget, Outcome};

/// What is known about needs and limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Most connections of one instance: the app's pool.
    pub pool_max: Option<u32>,
    /// Most instances of each service, by name; `None` where its scaling could not be read.
    pub instances: Vec<(String, Option<u32>)>,
    /// Connections the store allows, as it tells itself.
    pub connection_limit: Option<u32>,
    /// Commands the app sends a day.
    pub commands_per_day: Option<u64>,
    /// The store's command quota, as its vendor tells it.
    pub quota: Option<Quota>,
    /// Commands this product itself is going to send in the quota's period.
    pub our_commands: u64,
}

/// A command quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Commands allowed in a period.
    pub limit: u64,
    /// Commands used in the current one.
    pub used: u64,
    /// Days until the next one begins.
    pub days_left: u32,
}

/// How the check comes out, and the sums behind it.
#[must_use]
pub fn weigh(check: &BudgetCheck, figures: &Figures) -> (Outcome, String) {
    let connections = check.connections.map(|budget| connections(budget, figures));
    let commands = check.commands.map(|budget| commands(budget, figures));
    let sums: Vec<_> = [connections, commands].into_iter().flatten().collect();
    let outcome = if sums.iter().any(|sum| matches!(sum, Sum::Exceeds(_))) {
        Outcome::Broken
    } else if sums.iter().any(|sum| matches!(sum, Sum::Fits(_))) {
        Outcome::Works
    } else {
        Outcome::Skipped("the figures to compare are not known".to_owned())
    };
    let words: Vec<_> = sums.into_iter().map(Sum::into_words).collect();
    (outcome, words.join("; "))
}

enum Sum {
    Fits(String),
    Exceeds(String),
    Unknown(String),
}

impl Sum {
    fn into_words(self) -> String {
        match self {
            Self::Fits(words) | Self::Exceeds(words) | Self::Unknown(words) => words,
        }
    }
}

fn connections(budget: ConnectionBudget, figures: &Figures) -> Sum {
    let Some(pool) = budget.per_instance.or(figures.pool_max) else {
        return Sum::Unknown("connections of an instance are not known: set spec.app.pool.max".to_owned());
    };
    let mut instances = 0_u64;
    for (service, scaling) in &figures.instances {
        let Some(most) = budget.instances.or(*scaling) else {
            return Sum::Unknown(format!(
                "most instances of {service} are not known: set budget.connections.instances"
            ));
        };
        instances += u64::from(most);
    }
    let (limit, whose) = match (figures.connection_limit, budget.limit) {
        (Some(live), Some(written)) if live != written => {
            (live, format!("the store's limit; the check says {written}"))
        }
        (Some(live), _) => (live, "the store's limit".to_owned()),
        (None, Some(written)) => (written, "the check's limit; the store tells none".to_owned()),
        (None, None) => {
            return Sum::Unknown("the store's connection limit is not known: set budget.connections.limit".to_owned());
        }
    };
    let needed = u64::from(pool) * instances * 2;
    let allowed = u64::from(limit) * u64::from(budget.max_percent) / 100;
    let sum = format!(
        "{pool} connections × {instances} instances × 2 in a deployment = {needed}, {}",
        of(allowed, limit.into(), &whose)
    );
    if needed <= allowed {
        Sum::Fits(sum)
    } else {
        Sum::Exceeds(format!("{sum}: lower the pool or the most instances, or raise the store's plan"))
    }
}

fn commands(budget: CommandBudget, figures: &Figures) -> Sum {
    let Some(per_day) = budget.per_day.or(figures.commands_per_day) else {
        return Sum::Unknown("commands a day are not known: set spec.app.commandsPerDay".to_owned());
    };
    let (needed, limit, whose) = match (figures.quota, budget.limit_per_day) {
        (Some(Quota { limit, used, days_left }), _) => {
            let needed = per_day.saturating_mul(u64::from(days_left)).saturating_add(figures.our_commands);
            (needed, limit.saturating_sub(used), format!("left of the quota of {limit}, {days_left} days to go"))
        }
        (None, Some(limit)) => (per_day, limit, "a day, the check's limit; the store tells none".to_owned()),
        (None, None) => return Sum::Unknown("the store has no command quota that is known".to_owned()),
    };
    let allowed = u64::try_from(u128::from(limit) * u128::from(budget.max_percent) / 100).unwrap_or(u64::MAX);
    let sum = format!("{needed} commands, {}", of(allowed, limit, &whose));
    if needed <= allowed {
        Sum::Fits(sum)
    } else {
        Sum::Exceeds(format!("{sum}: send fewer commands, or raise the store's plan"))
    }
}

fn of(allowed: u64, limit: u64, whose: &str) -> String {
    if allowed == limit {
        format!("at most {limit} ({whose})")
    } else {
        format!("at most {allowed} of {limit} ({whose})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(connections: Option<ConnectionBudget>, commands: Option<CommandBudget>) -> BudgetCheck {
        BudgetCheck { connections, commands }
    }

    fn thirty() -> ConnectionBudget {
        ConnectionBudget { per_instance: None, instances: None, limit: Some(30), max_percent: 100 }
    }

    fn figures() -> Figures {
        Figures {
            pool_max: Some(5),
            instances: vec![("web".to_owned(), Some(2)), ("api".to_owned(), Some(1))],
            ..Figures::default()
        }
    }

    #[test]
    fn a_deployment_doubles_the_connections_of_every_service() {
        let (outcome, words) = weigh(&check(Some(thirty()), None), &figures());
        assert_eq!(outcome, Outcome::Works);
        assert_eq!(
            words,
            "5 connections × 3 instances × 2 in a deployment = 30, at most 30 (the check's limit; the store tells none)"
        );
        let (outcome, words) = weigh(&check(Some(thirty()), None), &Figures { pool_max: Some(6), ..figures() });
        assert_eq!(outcome, Outcome::Broken);
        assert!(words.contains("= 36, at most 30"), "{words}");
    }

    #[test]
    fn the_live_limit_wins_over_the_documents() {
        let live = Figures { pool_max: Some(50), connection_limit: Some(10_000), ..figures() };
        let (outcome, words) = weigh(&check(Some(thirty()), None), &live);
        assert_eq!(outcome, Outcome::Works);
        assert!(words.ends_with("at most 10000 (the store's limit; the check says 30)"), "{words}");
    }

    #[test]
    fn commands_are_counted_to_the_end_of_the_period_with_ours() {
        let budget = CommandBudget { per_day: None, limit_per_day: Some(10_000), max_percent: 50 };
        let quota = Quota { limit: 500_000, used: 100_000, days_left: 10 };
        let live = Figures { commands_per_day: Some(10_000), quota: Some(quota), our_commands: 100_000, ..figures() };
        let (outcome, words) = weigh(&check(None, Some(budget)), &live);
        assert_eq!(outcome, Outcome::Works);
        assert_eq!(words, "200000 commands, at most 200000 of 400000 (left of the quota of 500000, 10 days to go)");
        let (outcome, _) = weigh(&check(None, Some(budget)), &Figures { our_commands: 100_001, ..live });
        assert_eq!(outcome, Outcome::Broken);
    }

    #[test]
    fn what_is_not_known_is_skipped_and_named() {
        let unknown = Figures { pool_max: None, ..figures() };
        let (outcome, words) = weigh(&check(Some(thirty()), None), &unknown);
        assert!(matches!(outcome, Outcome::Skipped(_)));
        assert_eq!(words, "connections of an instance are not known: set spec.app.pool.max");
        let blind = Figures { instances: vec![("web".to_owned(), None)], ..figures() };
        let (_, words) = weigh(&check(Some(thirty()), None), &blind);
        assert_eq!(words, "most instances of web are not known: set budget.connections.instances");
    }

    #[test]
    fn one_sum_that_exceeds_fails_the_check_whatever_the_other_says() {
        let commands = CommandBudget { per_day: Some(1), limit_per_day: Some(10), max_percent: 100 };
        let connections = ConnectionBudget { limit: Some(1), ..thirty() };
        assert_eq!(weigh(&check(Some(connections), Some(commands)), &figures()).0, Outcome::Broken);
    }
}
