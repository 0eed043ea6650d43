//! The search itself: breadth first, so that the first run found to anywhere is a shortest one.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use super::{
    fingerprint::Fingerprints,
    plan::Plan,
    step::Step,
    violation::{Broken, Promise, Violation},
    world::World,
};

/// What a search that found nothing wrong has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The plan's name.
    pub world: String,
    /// Different states.
    pub states: usize,
    /// Steps from one of these to another, or to the same one again by another way.
    pub transitions: usize,
    /// Steps to the state that is furthest away, by its shortest run.
    pub depth: usize,
    /// Steps of the longest run: no run goes on for ever.
    pub longest: usize,
    /// States in which nothing is left to happen.
    pub ends: usize,
    /// How long it took.
    pub took: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { world, states, transitions, depth, longest, ends, took } = self;
        let seconds = took.as_secs_f64();
        write!(
            f,
            "{world}: {states} states, {transitions} transitions, depth {depth}, longest run {longest}, {ends} ends, {seconds:.1} s"
        )
    }
}

/// How a state was first reached.
#[derive(Clone, Copy)]
struct Origin {
    from: u32,
    step: Step,
}

/// Visits every state of a world.
///
/// # Errors
/// The first promise found broken, of those that need the fewest steps.
///
/// # Panics
/// If the world is not small: at 4 billion states.
pub fn explore(plan: &Plan) -> Result<Report, Box<Violation>> {
    let started = Instant::now();
    let mut search = Search { plan, origins: Vec::new(), targets: Vec::new(), offsets: vec![0] };
    let (depth, ends) = search.visit_all()?;
    let longest = search.longest_run()?;
    Ok(Report {
        world: plan.name.clone(),
        states: search.offsets.len() - 1,
        transitions: search.targets.len(),
        depth,
        longest,
        ends,
        took: started.elapsed(),
    })
}

struct Search<'a> {
    plan: &'a Plan,
    /// Of every state but the first, which has number 0.
    origins: Vec<Origin>,
    /// Where the steps of every state lead: those of state n are from `offsets[n]` up to the next one's.
    targets: Vec<u32>,
    offsets: Vec<usize>,
}

impl<'a> Search<'a> {
    /// Goes through all states; the depth, and the number of states in which nothing is left to happen.
    fn visit_all(&mut self) -> Result<(usize, usize), Box<Violation>> {
        let mut fingerprints = Fingerprints::default();
        let first = World::new(self.plan).map_err(|broken| self.violation(None, None, broken))?;
        let mut seen = HashMap::from([(fingerprints.of(&first), 0_u32)]);
        let mut frontier = VecDeque::from([(0_usize, first)]);
        let (mut deepest, mut ends, mut number) = (0, 0, 0_u32);
        while let Some((depth, mut world)) = frontier.pop_front() {
            deepest = depth;
            let moves = world.moves();
            if moves.due.is_empty() {
                ends += 1;
                guarded(|| world.check_end()).map_err(|broken| self.violation(Some(number), None, broken))?;
            }
            for step in moves.due.into_iter().chain(moves.possible) {
                let mut next = world.clone();
                guarded(|| next.apply(step))
                    .map_err(|broken| self.violation(Some(number), Some(step), broken))?;
                let count = u32::try_from(seen.len()).expect("a small world");
                let target = match seen.entry(fingerprints.of(&next)) {
                    Entry::Occupied(known) => *known.get(),
                    Entry::Vacant(new) => {
                        self.origins.push(Origin { from: number, step });
                        frontier.push_back((depth + 1, next));
                        *new.insert(count)
                    }
                };
                self.targets.push(target);
            }
            self.offsets.push(self.targets.len());
            number += 1;
        }
        Ok((deepest, ends))
    }

    /// Steps of the longest run, by taking away states that nothing leads to any more.
    fn longest_run(&self) -> Result<usize, Box<Violation>> {
        let states = self.offsets.len() - 1;
        let mut ways_in = vec![0_u32; states];
        self.targets.iter().for_each(|&target| ways_in[target as usize] += 1);
        let mut longest = vec![0_u32; states];
        let mut free = vec![0_u32];
        let mut taken = 0;
        if ways_in[0] > 0 {
            free.clear();
        }
        while let Some(state) = free.pop() {
            taken += 1;
            let state = state as usize;
            for &target in &self.targets[self.offsets[state]..self.offsets[state + 1]] {
                let at = target as usize;
                longest[at] = longest[at].max(longest[state] + 1);
                ways_in[at] -= 1;
                if ways_in[at] == 0 {
                    free.push(target);
                }
            }
        }
        let circle = ways_in.iter().position(|&ways| ways > 0);
        match circle.and_then(|state| u32::try_from(state).ok()) {
            Some(state) if taken < states => {
                let what = "from the end of this run, some run comes back to where it was";
                Err(self.violation(Some(state), None, Broken::new(Promise::Ends, what)))
            }
            _ => Ok(longest.into_iter().max().unwrap_or(0) as usize),
        }
    }

    /// A broken promise, with the run to the state it was found in.
    fn violation(&self, state: Option<u32>, step: Option<Step>, broken: Broken) -> Box<Violation> {
        let mut steps: Vec<Step> = step.into_iter().collect();
        let mut at = state.unwrap_or(0);
        while let Some(origin) = at.checked_sub(1).and_then(|index| self.origins.get(index as usize)) {
            steps.push(origin.step);
            at = origin.from;
        }
        steps.reverse();
        let transcript = transcript(self.plan, &steps);
        let Broken { promise, what } = broken;
        Box::new(Violation { world: self.plan.name.clone(), promise, what, transcript })
    }
}

/// Takes a run once more and writes down what happens.
fn transcript(plan: &Plan, steps: &[Step]) -> Vec<String> {
    let Ok(mut world) = World::new(plan) else { return Vec::new() };
    world.log = Some(Vec::new());
    for (index, &step) in steps.iter().enumerate() {
        if let Some(log) = &mut world.log {
            log.push(format!("{}. {step}", index + 1));
        }
        // The last one is what breaks the promise.
        let _ = guarded(|| world.apply(step));
    }
    world.log.unwrap_or_default()
}

/// A panic is a broken promise like others.
fn guarded(act: impl FnOnce() -> Result<(), Broken>) -> Result<(), Broken> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(Broken::new(Promise::Panic, text.unwrap_or_default()))
    })
}
