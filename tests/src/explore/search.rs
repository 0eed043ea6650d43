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
        let first = World::new(self.plan).map_err(|broken| self.violation(&[], broken))?;
        let mut seen = HashMap::from([(fingerprints.of(&first), 0_u32)]);
        let mut frontier = VecDeque::from([(0_usize, first)]);
        let (mut deepest, mut ends, mut number) = (0, 0, 0);
        while let Some((depth, mut world)) = frontier.pop_front() {
            deepest = depth;
            let moves = world.moves();
            if moves.due.is_empty() {
                ends += 1;
                guarded(|| world.check_end()).map_err(|broken| self.broken_by(number, None, broken))?;
            }
            for step in moves.due.into_iter().chain(moves.possible) {
                let mut next = world.clone();
                guarded(|| next.apply(step)).map_err(|broken| self.broken_by(number, Some(step), broken))?;
                let count = u32::try_from(seen.len()).expect("a small world");
                let target = match seen.entry(fingerprints.of(&next)) {
                    Entry::Occupied(known) => *known.get(),
                    Entry::Vacant(new) => {
                        let from = u32::try_from(number).expect("a small world");
                        self.origins.push(Origin { from, step });
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
        if taken < states {
            return Err(self.endless(&ways_in));
        }
        Ok(longest.into_iter().max().unwrap_or(0) as usize)
    }

    /// A run that comes back to where it was, from among the states that something still leads to.
    fn endless(&self, ways_in: &[u32]) -> Box<Violation> {
        let mut from = vec![None; ways_in.len()];
        for (state, _) in ways_in.iter().enumerate().filter(|(_, ways)| **ways > 0) {
            for &target in &self.targets[self.offsets[state]..self.offsets[state + 1]] {
                from[target as usize] = Some(state);
            }
        }
        // Going back from any of them ends in a circle, after so many steps at the latest.
        let start = ways_in.iter().position(|&ways| ways > 0).unwrap_or(0);
        let back = |state: &usize| from[*state];
        let on_circle = std::iter::successors(Some(start), back).nth(ways_in.len()).unwrap_or(start);
        let mut circle = vec![on_circle];
        circle.extend(std::iter::successors(back(&on_circle), back).take_while(|state| *state != on_circle));
        circle.push(on_circle);
        circle.reverse();
        let mut steps = self.run_to(on_circle);
        let before = steps.len();
        for pair in circle.windows(2) {
            let Some(mut world) = replay(self.plan, &steps, false) else { break };
            let moves = world.moves();
            let edges = &self.targets[self.offsets[pair[0]]..self.offsets[pair[0] + 1]];
            let chosen = edges.iter().position(|&target| target as usize == pair[1]);
            steps.extend(chosen.and_then(|index| moves.due.into_iter().chain(moves.possible).nth(index)));
        }
        let what = format!("after step {before} the same {} steps can happen for ever", steps.len() - before);
        self.violation(&steps, Broken::new(Promise::Ends, what))
    }

    /// A shortest run to a state.
    fn run_to(&self, state: usize) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut at = state;
        while let Some(origin) = at.checked_sub(1).and_then(|index| self.origins.get(index)) {
            steps.push(origin.step);
            at = origin.from as usize;
        }
        steps.reverse();
        steps
    }

    /// A promise that a step after a shortest run to a state breaks.
    fn broken_by(&self, state: usize, step: Option<Step>, broken: Broken) -> Box<Violation> {
        let mut steps = self.run_to(state);
        steps.extend(step);
        self.violation(&steps, broken)
    }

    fn violation(&self, steps: &[Step], broken: Broken) -> Box<Violation> {
        let world = replay(self.plan, steps, true);
        let transcript = world.and_then(|world| world.log).unwrap_or_default();
        let Broken { promise, what } = broken;
        Box::new(Violation { world: self.plan.name.clone(), promise, what, transcript })
    }
}

/// Takes a run once more, and writes down what happens.
fn replay<'a>(plan: &'a Plan, steps: &[Step], is_logged: bool) -> Option<World<'a>> {
    let mut world = World::new(plan).ok()?;
    world.log = is_logged.then(Vec::new);
    for (index, &step) in steps.iter().enumerate() {
        if let Some(log) = &mut world.log {
            log.push(format!("{}. {step}", index + 1));
        }
        // The last one may be what breaks a promise.
        let _ = guarded(|| world.apply(step));
    }
    Some(world)
}

/// A panic is a broken promise like others.
fn guarded(act: impl FnOnce() -> Result<(), Broken>) -> Result<(), Broken> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(Broken::new(Promise::Panic, text.unwrap_or_default()))
    })
}
