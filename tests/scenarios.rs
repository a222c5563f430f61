//! Clusters played step by step: each file of `tests/scenarios` holds commands and, below `----`, what
//! came of them. `UPDATE_SCENARIOS=1` writes the files anew; what changed is then read in the diff.
//!
//! Messages take 1 ms, syncs 1 ms, an election timeout (two heartbeat rounds) is 100 ms, and node 1 ends
//! its first round first. The commands are listed at `Play::command`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use loggos::paxos::{Command, NodeId, Optimisations, ReadWay, Roles, SessionId};
use loggos::sim::{self, Cluster, Reply, Settings};
use loggos::store;
use loggos::wire::kv;

const TIMEOUT_US: u64 = 100_000;
/// Sessions that clients find open: a scenario writes less often.
const SESSIONS: u64 = 32;

#[test]
fn scenarios_come_out_as_written() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    let update = std::env::var_os("UPDATE_SCENARIOS").is_some();
    let mut failed = Vec::new();
    for path in paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let before = std::fs::read_to_string(&path).unwrap();
        let after = play(&name, &before);
        if before == after {
            continue;
        }
        if update {
            std::fs::write(&path, after).unwrap();
        } else {
            let differs = before.lines().zip(after.lines()).find(|(a, b)| a != b);
            println!("{name}: first difference {differs:?}\n{after}");
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "{failed:?} came out otherwise; see UPDATE_SCENARIOS");
}

/// Plays a file and returns it with what came of it.
///
/// A file is a sequence of blocks between empty lines: comments, or commands with their outcome.
fn play(name: &str, text: &str) -> String {
    let mut play = Play::default();
    let mut out = Vec::new();
    for block in text.split("\n\n").map(str::trim_end).filter(|block| !block.is_empty()) {
        let commands: Vec<&str> = block.lines().take_while(|line| *line != "----").collect();
        if commands.iter().all(|line| line.starts_with('#')) {
            out.push(commands.join("\n"));
            continue;
        }
        let mut block = commands.join("\n");
        block.push_str("\n----\n");
        for command in commands.iter().filter(|line| !line.starts_with('#')) {
            let came = play.command(command).unwrap_or_else(|wrong| {
                panic!("{name}: {command}: {wrong}\n{}", play.transcript().join("\n"))
            });
            for line in came {
                writeln!(block, "{line}").expect("a string takes all");
            }
        }
        out.push(block.trim_end().to_owned());
    }
    out.join("\n\n") + "\n"
}

#[derive(Default)]
struct Play {
    cluster: Option<Cluster>,
    /// Commands by their text, each a session of its own, and who acknowledged them.
    sessions: BTreeMap<String, u64>,
    reads: u64,
    cut_at_us: u64,
}

type Outcome = Result<Vec<String>, String>;

impl Play {
    /// The commands:
    ///
    /// - `cluster 3`, `cluster A A A L L R R` (roles of each node), with `phase2=2`, `window=4`,
    ///   `lead=2` (who ends its first round first), `timeout=2000ms` (of requests), `lease=100ms`,
    ///   `snapshots=3` (every three slots, and the log begins behind the newest), `chunk=100` (bytes of a
    ///   part of one)
    /// - `run 250ms`: lets time pass
    /// - `write n1 x` or `write n1,n2 x`: one client sends command `x` to these replicas
    /// - `read n1`, `read n1 by-quorum`, `read n1 by-lease`
    /// - `cut 1-2 1>3`, `heal 1-2`, `heal all`, `links 1-2 2-3` (all others are cut)
    /// - `crash n1`, `restart n1`, `pause n1`, `resume n1`, `hand-over n1`, `take-over n1`
    /// - `stall-disk n1`: its syncs do not end any more
    /// - `serves n1 x within 4`: a client at `n1` has `x` acknowledged within so many election
    ///   timeouts since the last `cut` or `links`
    /// - `state`: what each node says of itself; `log`: what each replica applied
    fn command(&mut self, line: &str) -> Outcome {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (&verb, rest) = words.split_first().ok_or("an empty command")?;
        if verb == "cluster" {
            self.cluster = Some(self.build(rest)?);
            return Ok(self.transcript());
        }
        let cluster = self.cluster.as_mut().ok_or("no cluster yet")?;
        match (verb, rest) {
            ("run", [time]) => cluster.run(millis(time)?),
            ("write", [nodes, text]) => {
                let len = self.sessions.len() as u64 + 1;
                let session = *self.sessions.entry((*text).to_owned()).or_insert(len);
                for node in nodes.split(',') {
                    let command = write(session, text);
                    if !cluster.command(id(node)?, command, session) {
                        return Err(format!("{node} does not run"));
                    }
                }
            }
            ("read", [node, by @ ..]) => {
                let way = match by {
                    [] => ReadWay::Leader,
                    ["by-quorum"] => ReadWay::Quorum,
                    ["by-lease"] => ReadWay::Lease,
                    _ => return Err("read n1 by-quorum or by-lease".into()),
                };
                self.reads += 1;
                cluster.read(id(node)?, self.reads, way);
            }
            ("cut", pairs) => {
                self.cut_at_us = cluster.now_us;
                for pair in pairs {
                    match pair.split_once('-') {
                        Some((a, b)) => cluster.cut_both(id(a)?, id(b)?),
                        None => {
                            let (a, b) = pair.split_once('>').ok_or("1-2 or 1>2")?;
                            cluster.cut(id(a)?, id(b)?);
                        }
                    }
                }
            }
            ("heal", ["all"]) => cluster.heal_all(),
            ("heal", pairs) => {
                for pair in pairs {
                    let (a, b) = pair.split_once('-').ok_or("1-2")?;
                    cluster.heal(id(a)?, id(b)?);
                }
            }
            ("links", pairs) => {
                self.cut_at_us = cluster.now_us;
                let mut kept = Vec::new();
                for pair in pairs {
                    let (a, b) = pair.split_once('-').ok_or("1-2")?;
                    kept.push((id(a)?, id(b)?));
                }
                let nodes = cluster.nodes();
                for (i, &a) in nodes.iter().enumerate() {
                    for &b in &nodes[i + 1..] {
                        if kept.contains(&(a, b)) || kept.contains(&(b, a)) {
                            cluster.heal(a, b);
                        } else {
                            cluster.cut_both(a, b);
                        }
                    }
                }
            }
            ("crash", [node]) => cluster.crash(id(node)?, false),
            ("restart", [node]) => cluster.start(id(node)?),
            ("pause", [node]) => cluster.pause(id(node)?),
            ("resume", [node]) => cluster.resume(id(node)?),
            ("hand-over", [node]) => cluster.hand_over(id(node)?),
            ("take-over", [node]) => cluster.take_over(id(node)?),
            ("stall-disk", [node]) => cluster.stall_disk(id(node)?),
            ("serves", [node, text, "within", timeouts]) => {
                let timeouts: u64 = timeouts.parse().map_err(|_| "a number of timeouts")?;
                return self.serves(node, text, timeouts);
            }
            ("state", []) => return Ok(self.state()),
            ("log", []) => return Ok(self.log()),
            _ => return Err("no such command".into()),
        }
        Ok(self.transcript())
    }

    fn build(&mut self, words: &[&str]) -> Result<Cluster, String> {
        let mut settings = Settings {
            roles: Vec::new(),
            phase1: None,
            phase2: None,
            election_timeout_us: TIMEOUT_US,
            request_timeout_us: 10 * TIMEOUT_US,
            window_slots: 256,
            optimisations: Optimisations::default(),
            alpha_slots: 256,
            spares: 0,
            delay_us: (1000, 1000),
            sync_us: (1000, 1000),
            stall_us: (2 * TIMEOUT_US, 2 * TIMEOUT_US),
            dial_us: (1000, 1000),
            learn_values_max: 100,
            snapshot_slots: 0,
            keep_slots: 0,
            checkpoint_slots: 0,
            snapshot_chunk_size: 400,
            segment_size: 64 * 1024,
            lease_us: 0,
            drift_ppm_max: 0,
            random_start: false,
            first_leader: 1,
            sessions_open: SESSIONS,
        };
        for word in words {
            let only = |acceptor, leader, replica| Roles { acceptor, leader, replica };
            match (word.split_once('='), *word) {
                (Some(("phase2", n)), _) => settings.phase2 = n.parse().ok(),
                (Some(("window", n)), _) => {
                    settings.window_slots = n.parse().map_err(|_| "a window")?;
                }
                (Some(("lease", time)), _) => settings.lease_us = millis(time)?,
                (Some(("snapshots", n)), _) => {
                    settings.snapshot_slots = n.parse().map_err(|_| "a number of slots")?;
                }
                (Some(("chunk", n)), _) => {
                    settings.snapshot_chunk_size = n.parse().map_err(|_| "a number of bytes")?;
                }
                (Some(("lead", node)), _) => settings.first_leader = id(node)?.0,
                (Some(("timeout", time)), _) => settings.request_timeout_us = millis(time)?,
                (None, "A") => settings.roles.push(only(true, false, false)),
                (None, "L") => settings.roles.push(only(false, true, false)),
                (None, "R") => settings.roles.push(only(false, false, true)),
                (None, n) => {
                    settings.roles = vec![Roles::ALL; n.parse().map_err(|_| "a number of nodes")?];
                }
                _ => return Err(format!("{word}?")),
            }
        }
        let mut cluster = Cluster::new(settings, 1);
        cluster.trace.len_max = 1000;
        cluster.start_all();
        cluster.trace.lines.clear();
        Ok(cluster)
    }

    /// A client at these nodes that does not give up until the time is over.
    fn serves(&mut self, nodes: &str, text: &str, timeouts: u64) -> Outcome {
        let deadline_us = self.cut_at_us + timeouts * TIMEOUT_US;
        let session = self.sessions.len() as u64 + 1;
        self.sessions.insert(text.to_owned(), session);
        let cluster = self.cluster.as_mut().expect("built");
        for node in nodes.split(',') {
            let command = write(session, text);
            cluster.command(id(node)?, command, session);
        }
        let done = |reply: &Reply| matches!(reply, Reply::Done { id, .. } if id.session == SessionId(session));
        while !cluster.replies.iter().any(done) {
            cluster.step(deadline_us);
            if deadline_us <= cluster.now_us {
                return Err(format!("not served within {timeouts} election timeouts"));
            }
        }
        let took = (cluster.now_us - self.cut_at_us) as f64 / TIMEOUT_US as f64;
        let mut lines = self.transcript();
        lines.push(format!("  {took:.1} election timeouts after the cut"));
        Ok(lines)
    }

    /// What happened since the last command.
    fn transcript(&mut self) -> Vec<String> {
        let Some(cluster) = &mut self.cluster else { return Vec::new() };
        cluster.replies.clear();
        let of_faults = |line: &String| ["cut ", "heal "].iter().any(|w| line[10..].starts_with(w));
        let told = cluster.trace.lines.drain(..).filter(|line| !of_faults(line));
        told.filter(|line| !line.contains(" starts: ")).collect()
    }

    fn state(&self) -> Vec<String> {
        let hosts = &self.cluster.as_ref().expect("built").hosts;
        let told = hosts.iter().map(|(id, host)| match &host.node {
            None => format!("  {id} is down"),
            Some(node) => {
                let view = node.view();
                let leader = match (view.leading, view.leader) {
                    (true, _) => "leads".to_owned(),
                    (false, Some(leader)) => format!("follows {leader}"),
                    (false, None) => "has no leader".to_owned(),
                };
                let (ballot, slot) = (view.ballot, view.first_unchosen);
                format!("  {id} {leader}, ballot {ballot}, first unchosen slot {slot}")
            }
        });
        told.collect()
    }

    fn log(&self) -> Vec<String> {
        let cluster = self.cluster.as_ref().expect("built");
        let told = cluster.replicas().into_iter().map(|id| {
            let end = cluster.hosts[&id].applied_end;
            format!("  {id} slots below {end}: {}", cluster.words(end).join(" "))
        });
        told.collect()
    }
}

/// The only command of a session: it puts the key `text`.
fn write(session: u64, text: &str) -> Command {
    assert!(session <= SESSIONS);
    let put = store::Command::Put { key: text.as_bytes(), value: b"1" };
    sim::command(session, 1, 1, &kv::encode_command(&put))
}

fn id(word: &str) -> Result<NodeId, String> {
    let digits = word.trim_start_matches('n');
    digits.parse().map(NodeId).map_err(|_| format!("{word} is no node"))
}

fn millis(word: &str) -> Result<u64, String> {
    let digits = word.strip_suffix("ms").ok_or("a time, as 250ms")?;
    digits.parse::<u64>().map(|ms| ms * 1000).map_err(|_| format!("{word} is no time"))
}
