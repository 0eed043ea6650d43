//! Making a failing plan shorter.

use super::{Failure, plan::Plan, run};

/// Runs that shrinking may take.
const RUNS: usize = 3_000;

impl Failure {
    /// Leaves out what the failure doesn't need, as far as that is found: first many steps at once, then one by
    /// one. What remains fails too, perhaps in another way.
    #[must_use]
    pub fn shrink(self) -> Self {
        let mut smallest = self;
        let mut runs = 0;
        let mut chunk = smallest.plan.steps.len().div_ceil(2).max(1);
        while runs < RUNS {
            let mut at = 0;
            let mut has_shrunk = false;
            while at < smallest.plan.steps.len() && runs < RUNS {
                runs += 1;
                match run(&without(&smallest.plan, at, chunk)) {
                    Err(smaller) => {
                        smallest = *smaller;
                        has_shrunk = true;
                    }
                    Ok(_) => at += chunk,
                }
            }
            if chunk > 1 {
                chunk = chunk.div_ceil(2);
            } else if !has_shrunk {
                break;
            }
        }
        smallest
    }
}

fn without(plan: &Plan, at: usize, count: usize) -> Plan {
    let mut plan = plan.clone();
    plan.steps.drain(at..(at + count).min(plan.steps.len()));
    plan
}
