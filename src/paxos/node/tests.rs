use super::super::batch::SessionId;
use super::super::configurations::fixtures::configurations;
use super::super::ids::Value;
use super::fixtures::{self, hear, node};
use super::*;

/// An answer to a scout rests on durable records only, how far the log is chosen included: here
/// the scout's question comes a second time, when nothing else is there to be recorded.
#[test]
fn a_p1b_is_durable_in_all_that_it_says() {
    let mut node = node();
    let old = Ballot { round: 1, node: NodeId(1) };
    let values = vec![Value::noop()];
    let (first_slot, first_unchosen) = (Slot(1), Slot(1));
    hear(
        &mut node,
        1,
        Message::P2a { ballot: old, first_slot, first_unchosen, values: values.into() },
    );
    let p1a = Message::P1a { ballot: Ballot { round: 2, node: NodeId(3) }, first_slot };
    hear(&mut node, 3, p1a.clone());
    hear(&mut node, 1, Message::Commit { ballot: old, first_unchosen: Slot(2) });
    let fx = hear(&mut node, 3, p1a);
    assert!(matches!(&fx.sends_after_sync[..], [(NodeId(3), Message::P1b(p1b))]
        if p1b.first_unchosen == Slot(2)));
    assert_eq!(fx.records, [Record::FirstUnchosen(Slot(2))]);
}

/// Without room nothing is accepted and nothing learned, and what the node says of itself stays true;
/// with room again it takes what comes again.
#[test]
fn a_full_disk_takes_no_values() {
    let mut node = node();
    let ballot = Ballot { round: 1, node: NodeId(1) };
    let p2a = || {
        let (first_slot, first_unchosen) = (Slot(1), Slot(1));
        Message::P2a { ballot, first_slot, first_unchosen, values: Value::noop().into() }
    };
    let accepted_end = |fx: &Effects| match &fx.sends_after_sync[..] {
        [(NodeId(1), Message::P2b(p2b))] => p2b.accepted_end,
        other => panic!("expected a P2b, got {other:?}"),
    };
    node.set_health(Health { disk_full: true, ..Health::default() });
    let fx = hear(&mut node, 1, p2a());
    let has_value = |it: &Record| matches!(it, Record::Accepted { .. } | Record::Chosen { .. });
    assert!(!fx.records.iter().any(has_value) && accepted_end(&fx) == Slot(1));
    assert!(fx.records.contains(&Record::Promised(ballot)));
    let (first_slot, first_unchosen) = (Slot(1), Slot(2));
    let values = vec![(ballot, Value::noop())];
    let fx = hear(&mut node, 1, Message::Chosen { first_slot, values, first_unchosen });
    assert!(!fx.records.iter().any(has_value) && fx.chosen.is_empty());
    assert!(!node.lacks_room(), "who is not heard may have room");
    node.set_health(Health::default());
    assert_eq!(accepted_end(&hear(&mut node, 1, p2a())), Slot(2));
}

/// A cluster of one node, which leads.
fn leading(optimisations: Optimisations) -> Node {
    let config = NodeConfig {
        optimisations,
        ..fixtures::config(NodeId(1), Roles::ALL, configurations(1, None, 4))
    };
    let mut fx = Effects::new(NodeId(1));
    let mut node = Node::new(config, &Recovered::default(), 1, Now::default(), &mut fx);
    let now = Now { mono_us: 1000, wall_us: 1000 };
    node.on_tick(now, &mut fx);
    settle(&mut node, fx);
    assert!(node.view().leading);
    node
}

/// Ends turns, and lets the node hear of itself what waited for the sync, until there is nothing more. Returns how many
/// commands each slot got, and how often phase 1 began.
fn settle(node: &mut Node, mut fx: Effects) -> (Vec<usize>, usize) {
    let now = Now { mono_us: 1000, wall_us: 1000 };
    let (mut slots, mut scouts) = (Vec::new(), 0);
    loop {
        node.end_turn(now, &mut fx);
        for event in std::mem::take(&mut fx.events) {
            match event {
                Event::Proposed { commands, .. } => slots.push(commands),
                Event::ScoutStarted { .. } => scouts += 1,
                _ => {}
            }
        }
        let durable = std::mem::take(&mut fx.sends_after_sync);
        if durable.is_empty() {
            return (slots, scouts);
        }
        for (to, message) in durable {
            node.on_message(now, to, message, &mut fx);
        }
    }
}

/// Commands of one turn, twice.
fn two_turns(node: &mut Node) -> [(Vec<usize>, usize); 2] {
    [1, 2].map(|turn| {
        for seq in 0..3 {
            let id = CommandId { session: SessionId(seq + 1), seq: turn };
            let command = Command { id, acknowledged: 1, payload: [0; 8].into() };
            node.on_command(Now { mono_us: 1000, wall_us: 1000 }, command, seq);
        }
        settle(node, Effects::new(NodeId(1)))
    })
}

#[test]
fn commands_of_a_turn_share_a_slot() {
    let mut node = leading(Optimisations::default());
    assert_eq!(two_turns(&mut node), [(vec![3], 0), (vec![3], 0)]);
    let mut node = leading(Optimisations { batching: false, ..Optimisations::default() });
    assert_eq!(two_turns(&mut node), [(vec![1, 1, 1], 0), (vec![1, 1, 1], 0)]);
}

/// The first turn's commands are for the ballot with which it began to lead.
#[test]
fn phase_1_is_gone_through_once() {
    let mut node = leading(Optimisations { phase1_skip: false, ..Optimisations::default() });
    assert_eq!(two_turns(&mut node), [(vec![3], 0), (vec![3], 1)]);
}
