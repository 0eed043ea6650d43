//! Making a failing plan shorter.

use super::{Failure, plan::Plan, run};
use crate::shrinking::shortest;

/// Runs that shrinking may take.
const RUNS: usize = 3_000;

impl Failure {
    /// Leaves out what the failure doesn't need, as far as that is found: first many steps at once, then one by
    /// one. What remains fails too, perhaps in another way.
    #[must_use]
    pub fn shrink(self) -> Self {
        let plan = self.plan.clone();
        let again = |steps: &[_]| {
            let shorter = Plan { steps: steps.to_vec(), ..plan.clone() };
            run(&shorter).err().map(|failure| *failure)
        };
        shortest(self.plan.steps.clone(), self, RUNS, again).1
    }
}
