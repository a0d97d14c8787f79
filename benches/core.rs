//! Plans per second and full simulated migrations per second, on one core.
#![allow(missing_docs, clippy::disallowed_methods, clippy::pedantic, clippy::unwrap_used, clippy::expect_used)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;
use std::time::{Duration, Instant};

use sessionbackend::plan::{Inputs, guard, plan};
use sessionbackend::sim::Faults;

use support::*;

/// Runs `work` for two seconds and gives how often it ran a second.
fn rate(mut work: impl FnMut()) -> f64 {
    let began = Instant::now();
    let mut times = 0_u32;
    while began.elapsed() < Duration::from_secs(2) {
        work();
        times += 1;
    }
    f64::from(times) / began.elapsed().as_secs_f64()
}

fn main() {
    let (owner, desired) = (owner(), present(target(&["web"])));
    let pictures = pictures_of_a_migration();
    let mut next = 0;
    let plans = rate(|| {
        let picture = &pictures[next % pictures.len()];
        next += 1;
        let inputs = Inputs {
            owner: &owner,
            desired: &desired,
            observed: &picture.observed,
            journal: &picture.journal,
            announced: None,
            now: at(60),
        };
        let plan = plan(&inputs);
        let violations = guard::violations(&inputs, &plan);
        let _ = black_box((violations, plan));
    });
    let migrations = rate(|| {
        let world = start(on_elasticache(&["web"]), Faults::default());
        black_box(drive(&world, &owner, &desired).cycles);
    });
    println!("plans, guarded         {plans:>10.0} /s   (goal 100,000)");
    println!("simulated migrations   {migrations:>10.0} /s   (goal 1,000)");
}
