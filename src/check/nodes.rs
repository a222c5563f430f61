//! What the nodes' own traces can show of agreement and of the order of ballots.
//!
//! A trace is one life of a node: a process from its start to its end. What a killed one still had in
//! its buffer is missing at the end, so nothing here concludes from what is not recorded.
//!
//! In each life: the ballots followed never go back; ballots that it scouts with and that are adopted
//! grow; the first unchosen slot grows from where it was; slots are applied one after the other, none
//! before it is chosen; no command is answered before its slot is applied; a leader proposes its
//! slots in order. Over all lives: no ballot is scouted or adopted in two of them; whoever applied a
//! slot applied the same value, as many commands, and had the same state afterwards.

use std::collections::BTreeMap;

use crate::trace::{Event, Kind};

/// Problems that are told in words.
const PROBLEMS_MAX: usize = 10;

/// One life of a node.
#[derive(Clone, Debug)]
pub struct Life {
    /// Where its records are from, for messages.
    pub name: String,
    pub node: u16,
    pub events: Vec<Event>,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub lives: usize,
    /// Slots that somebody applied, and those that were applied in two lives or more and compared.
    pub slots: u64,
    pub compared: u64,
    pub ballots: u64,
    /// How many problems there are, and the first of them.
    pub problems: u64,
    pub examples: Vec<String>,
}

impl Verdict {
    pub fn is_well(&self) -> bool {
        self.problems == 0
    }

    fn note(&mut self, problem: String) {
        self.problems += 1;
        if self.examples.len() < PROBLEMS_MAX {
            self.examples.push(problem);
        }
    }
}

/// A round and its owner: ballots in their order.
type Ballot = (u64, u16);

/// What is known of a slot, and by whose record.
struct Slot {
    commands: u32,
    digest: u64,
    value: u64,
    life: usize,
    compared: bool,
}

/// Looks through all lives, in any order.
pub fn verify(lives: &[Life]) -> Verdict {
    let mut verdict = Verdict { lives: lives.len(), ..Verdict::default() };
    let mut slots: BTreeMap<u64, Slot> = BTreeMap::new();
    let mut scouted: BTreeMap<Ballot, usize> = BTreeMap::new();
    let mut adopted: BTreeMap<Ballot, usize> = BTreeMap::new();
    for (number, life) in lives.iter().enumerate() {
        verify_life(life, &mut verdict);
        for event in &life.events {
            let ballot = (event.a, life.node);
            let twice = match event.kind {
                Kind::ScoutStarted => scouted.insert(ballot, number).map(|it| (it, "scouted with")),
                Kind::Adopted => adopted.insert(ballot, number).map(|it| (it, "adopted")),
                Kind::Applied => {
                    compare(event, number, lives, &mut slots, &mut verdict);
                    None
                }
                _ => None,
            };
            // Twice in one life is a ballot that did not grow, and told there.
            if let Some((other, what)) = twice.filter(|(other, _)| *other != number) {
                let (one, other) = (&life.name, &lives[other].name);
                let ballot = show(ballot);
                verdict.note(format!("ballot {ballot} was {what} in {other} and again in {one}"));
            }
        }
    }
    verdict.slots = slots.len() as u64;
    verdict.compared = slots.values().filter(|slot| slot.compared).count() as u64;
    verdict.ballots = adopted.len() as u64;
    verdict
}

/// Compares a slot applied here with the same slot applied elsewhere.
fn compare(
    event: &Event,
    life: usize,
    lives: &[Life],
    slots: &mut BTreeMap<u64, Slot>,
    verdict: &mut Verdict,
) {
    let here = Slot { commands: event.aux, digest: event.b, value: event.c, life, compared: false };
    let Some(there) = slots.get_mut(&event.a) else {
        slots.insert(event.a, here);
        return;
    };
    there.compared |= there.life != life;
    // Traces of earlier builds have neither.
    let differ = |a: u64, b: u64| a != 0 && b != 0 && a != b;
    let what = if differ(there.value, here.value) {
        "another value"
    } else if there.commands != here.commands {
        "another number of commands"
    } else if differ(there.digest, here.digest) {
        "the same value and left another state"
    } else {
        return;
    };
    let (one, other) = (&lives[life].name, &lives[there.life].name);
    verdict.note(format!("slot {}: {one} applied {what} than {other}", event.a));
}

/// What must hold within one life.
fn verify_life(life: &Life, verdict: &mut Verdict) {
    let name = &life.name;
    let (mut followed, mut scouted, mut adopted): (Ballot, u64, u64) = ((0, 0), 0, 0);
    let (mut first_unchosen, mut applied, mut proposed) = (None, None, 0);
    for event in &life.events {
        match event.kind {
            Kind::NodeStarted => first_unchosen = Some(event.a),
            Kind::LeaderChanged => {
                let ballot = (event.a, event.node);
                if ballot < followed {
                    let (ballot, before) = (show(ballot), show(followed));
                    verdict.note(format!("{name} followed ballot {ballot} after {before}"));
                }
                followed = followed.max(ballot);
            }
            Kind::ScoutStarted => {
                if event.a <= scouted {
                    let round = event.a;
                    verdict.note(format!("{name} scouted with round {round} after {scouted}"));
                }
                scouted = scouted.max(event.a);
            }
            Kind::Adopted => {
                if event.a <= adopted {
                    let round = event.a;
                    verdict.note(format!("{name}: round {round} was adopted after {adopted}"));
                }
                adopted = adopted.max(event.a);
                proposed = 0;
            }
            Kind::Proposed => {
                if event.a <= proposed {
                    let slot = event.a;
                    verdict.note(format!("{name} proposed slot {slot} after {proposed}"));
                }
                proposed = proposed.max(event.a);
            }
            Kind::Chosen => {
                if event.a <= event.b || first_unchosen.is_some_and(|known| known != event.b) {
                    verdict.note(format!(
                        "{name} knew slots below {} to be chosen, then those from {} to {}",
                        first_unchosen.unwrap_or(0),
                        event.b,
                        event.a
                    ));
                }
                first_unchosen = Some(event.a);
            }
            // The state behind all earlier slots came from a peer.
            Kind::Jumped => {
                if event.a <= event.b || first_unchosen.is_some_and(|known| known != event.b) {
                    verdict.note(format!("{name} jumped from {} to {}", event.b, event.a));
                }
                first_unchosen = Some(event.a);
                applied = event.a.checked_sub(1);
            }
            Kind::Applied => {
                if let Some(before) =
                    applied.filter(|before: &u64| before.checked_add(1) != Some(event.a))
                {
                    verdict.note(format!("{name} applied slot {} after {before}", event.a));
                }
                if first_unchosen.is_some_and(|end| end <= event.a) {
                    verdict.note(format!("{name} applied slot {} before it was chosen", event.a));
                }
                applied = Some(event.a);
            }
            Kind::RequestReplied if applied.is_none_or(|applied| applied < event.c) => {
                verdict.note(format!("{name} answered from slot {} before applying it", event.c));
            }
            _ => {}
        }
    }
}

fn show((round, node): Ballot) -> String {
    format!("{round}.{node}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: Kind, node: u16, aux: u32, a: u64, b: u64, c: u64) -> Event {
        Event { aux, a, b, c, ..Event::new(0, kind, node) }
    }

    fn applied(slot: u64) -> Event {
        event(Kind::Applied, 1, 1, slot, 100 + slot, 200 + slot)
    }

    fn life(node: u16, events: &[Event]) -> Life {
        Life { name: format!("n{node}.trace"), node, events: events.to_vec() }
    }

    /// A leader's life as it should be.
    fn good(node: u16) -> Vec<Event> {
        vec![
            event(Kind::NodeStarted, node, 0, 1, 0, 0),
            event(Kind::LeaderChanged, node, 0, 1, 0, 0),
            event(Kind::ScoutStarted, node, 0, 1, 1, 0),
            event(Kind::Adopted, node, 0, 1, 1, 0),
            event(Kind::Proposed, node, 1, 1, 8, 0),
            event(Kind::Proposed, node, 1, 2, 8, 0),
            event(Kind::Chosen, node, 0, 3, 1, 0),
            applied(1),
            applied(2),
            event(Kind::RequestReplied, node, 0, 7, 1, 2),
        ]
    }

    /// The one problem of these lives.
    fn problem(lives: &[Life]) -> String {
        let verdict = verify(lives);
        assert_eq!((verdict.problems, verdict.examples.len()), (1, 1), "{verdict:?}");
        verdict.examples[0].clone()
    }

    #[test]
    fn a_good_run() {
        let lives = [life(1, &good(1)), life(2, &good(2)), life(3, &[])];
        let verdict = verify(&lives);
        assert!(verdict.is_well(), "{verdict:?}");
        assert_eq!((verdict.lives, verdict.slots, verdict.compared, verdict.ballots), (3, 2, 2, 2));
        // What lies between the buffer and the disk at a kill -9 is missing, and no problem.
        for length in 0..good(2).len() {
            assert!(verify(&[life(1, &good(1)), life(2, &good(2)[..length])]).is_well());
        }
    }

    #[test]
    fn replicas_that_differ() {
        let differing = |change: fn(&mut Event)| {
            let mut events = good(2);
            change(&mut events[8]);
            problem(&[life(1, &good(1)), life(2, &events)])
        };
        assert_eq!(
            differing(|it| it.c = 9),
            "slot 2: n2.trace applied another value than n1.trace"
        );
        assert!(differing(|it| it.aux = 9).contains("number of commands"));
        assert!(differing(|it| it.b = 9).contains("another state"));
    }

    #[test]
    fn lives_out_of_order() {
        let with = |more: &[Event]| problem(&[life(1, &[good(1), more.to_vec()].concat())]);
        assert!(with(&[applied(2)]).contains("applied slot 2 after 2"));
        let chosen = event(Kind::Chosen, 1, 0, 9, 3, 0);
        assert!(with(&[chosen, applied(4)]).contains("applied slot 4 after 2"));
        assert!(with(&[applied(3)]).contains("before it was chosen"));
        let jumped = [event(Kind::Jumped, 1, 0, 6, 3, 0), event(Kind::Chosen, 1, 0, 7, 6, 0)];
        let replied = event(Kind::RequestReplied, 1, 0, 7, 2, 5);
        let well = [good(1), jumped.to_vec(), vec![replied, applied(6)]].concat();
        assert!(verify(&[life(1, &well)]).is_well());
        assert!(with(&[jumped[0], jumped[1], applied(5)]).contains("applied slot 5 after 5"));
        assert!(with(&[event(Kind::Jumped, 1, 0, 9, 2, 0)]).contains("jumped from 2 to 9"));
        let back = [event(Kind::LeaderChanged, 3, 0, 2, 0, 0)];
        assert!(verify(&[life(1, &[good(1), back.to_vec()].concat())]).is_well());
        let back = [back[0], event(Kind::LeaderChanged, 2, 0, 2, 0, 0)];
        assert_eq!(with(&back), "n1.trace followed ballot 2.2 after 2.3");
        assert!(with(&[event(Kind::ScoutStarted, 1, 0, 1, 1, 0)]).contains("scouted"));
        assert!(with(&[event(Kind::Adopted, 1, 0, 1, 1, 0)]).contains("adopted"));
        assert!(with(&[event(Kind::Proposed, 1, 0, 2, 1, 0)]).contains("proposed slot 2"));
        assert!(with(&[event(Kind::Chosen, 1, 0, 5, 4, 0)]).contains("below 3"));
        assert!(with(&[event(Kind::RequestReplied, 1, 0, 7, 2, 3)]).contains("answered"));
    }

    /// A node that forgot its ballot uses it again after a restart.
    #[test]
    fn a_ballot_in_two_lives() {
        let mut again = life(1, &good(1)[..3]);
        again.name = "n1-2.trace".to_owned();
        let told = problem(&[life(1, &good(1)), again]);
        assert_eq!(told, "ballot 1.1 was scouted with in n1.trace and again in n1-2.trace");
        // Another node's of the same round is another ballot.
        assert!(verify(&[life(1, &good(1)), life(2, &good(2))]).is_well());
    }

    /// Traces of earlier builds tell neither value nor state.
    #[test]
    fn what_is_not_told_is_not_compared() {
        let mut events = good(2);
        events.iter_mut().for_each(|event| {
            if event.kind == Kind::Applied {
                (event.b, event.c) = (0, 0);
            }
        });
        assert!(verify(&[life(1, &good(1)), life(2, &events)]).is_well());
    }
}
