//! What the configuration takes and refuses, and that the example file is true.

use toml::Value;

use super::*;

const EXAMPLE: &str = include_str!("../../systemd/loggos.toml");

const MINIMAL: &str = r#"
    cluster = "demo"
    node = 1
    data_dir = "/data"
    [[nodes]]
    id = 1
    peer_address = "10.0.0.1:7400"
    client_address = "10.0.0.1:7401"
"#;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, "loggos.toml", &Overrides::default())
}

/// The error of a text, which must be one line that begins with the file.
fn error(text: &str) -> String {
    let error = parse(text).expect_err(text).to_string();
    assert!(error.starts_with("loggos.toml: ") && error.lines().count() == 1, "{error}");
    error
}

/// The minimal file with `lines` in their sections.
fn minimal_with(lines: &str) -> String {
    format!("{MINIMAL}{lines}\n")
}

/// A file of `n` nodes with `entry` added to each.
fn nodes(n: usize, entry: &str) -> String {
    let mut text = String::from("cluster = \"demo\"\nnode = 1\ndata_dir = \"/data\"\n");
    for id in 1..=n {
        text += &format!(
            "[[nodes]]\nid = {id}\npeer_address = \"10.0.0.{id}:7400\"\n\
             client_address = \"10.0.0.{id}:7401\"\n{entry}\n"
        );
    }
    text
}

/// The example with the keys that stand in it as comments: `#key = value`, no space.
fn example_in_full() -> String {
    let uncomment = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase()) => rest.to_string(),
        _ => line.to_string(),
    };
    EXAMPLE.lines().map(uncomment).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_minimal_file_gets_the_defaults() {
    let config = parse(MINIMAL).unwrap();
    assert_eq!(config.cluster, ClusterId::of_name("demo"));
    assert_eq!((config.node, config.data_dir.to_str()), (NodeId(1), Some("/data")));
    assert_eq!(config.nodes[0].roles, Roles::ALL);
    assert_eq!((config.election_timeout_us, config.request_timeout_us), (100_000, 5_000_000));
    assert_eq!((config.window_slots, config.clients_max), (256, 4_096));
    assert_eq!(config.reads_way, ReadWay::Leader);
    assert_eq!((config.lease.lease_us, config.lease.clock_error_permille), (0, 10));
    assert_eq!((config.wal_segment_size, config.wal_sync), (64 * MIB, true));
    assert_eq!((config.snapshot_log_size, config.snapshot_keep_slots), (256 * MIB, 0));
    assert_eq!(config.snapshot_transfer_bytes_s, 64 * MIB);
    assert_eq!((config.trace, config.log_level), (None, log::LevelFilter::Info));
    assert_eq!((config.optimisations, config.group_commit), (Optimisations::default(), true));
}

#[test]
fn the_file_is_followed() {
    let config = parse(
        r#"
        cluster = "c"
        node = 7
        data_dir = "d"
        log_level = "debug"
        trace = "t"
        nodes = [
            { id = 7, peer_address = "[::1]:1", client_address = "[::1]:2", roles = ["leader", "acceptor"] },
            { id = 2, peer_address = "10.0.0.2:1", client_address = "10.0.0.2:2" },
        ]
        timing = { election_timeout_ms = 10, request_timeout_ms = 100 }
        quorum = { phase1 = 1 }
        reads = { way = "lease", lease_ms = 5, clock_error_permille = 3 }
        wal = { segment_mib = 8, sync = false }
        snapshot = { log_mib = 1, keep_slots = 7, transfer_mib_s = 3 }
        limits = { clients_max = 1, window_slots = 256 }
        optimisations = { batching = false, group_commit = false, quorum_connected_election = false }
        "#,
    )
    .unwrap();
    assert_eq!((config.node, config.log_level), (NodeId(7), log::LevelFilter::Debug));
    assert_eq!(config.nodes[0].roles, Roles { replica: false, ..Roles::ALL });
    assert_eq!(config.nodes[0].peer_address, "[::1]:1".parse().unwrap());
    assert_eq!(config.trace.as_deref(), Some(Path::new("t")));
    let membership = config.configuration.membership();
    assert_eq!((membership.phase1(), membership.phase2()), (1, 2));
    assert_eq!(config.reads_way, ReadWay::Lease);
    assert_eq!((config.lease.lease_us, config.lease.clock_error_permille), (5_000, 3));
    assert_eq!((config.election_timeout_us, config.request_timeout_us), (10_000, 100_000));
    assert_eq!((config.wal_segment_size, config.wal_sync), (8 * MIB, false));
    assert_eq!((config.snapshot_log_size, config.snapshot_keep_slots), (MIB, 7));
    assert_eq!(config.snapshot_transfer_bytes_s, 3 * MIB);
    assert_eq!((config.clients_max, config.window_slots), (1, 256));
    let optimisations =
        Optimisations { batching: false, phase1_skip: true, quorum_connected_election: false };
    assert_eq!((config.optimisations, config.group_commit), (optimisations, false));
}

#[test]
fn the_command_line_overrides_the_file() {
    let overrides = Overrides {
        node: Some(2),
        data_dir: Some("/other".into()),
        trace: Some("/trace".into()),
        log_level: Some("warn".into()),
    };
    // What it gives may be left out of the file.
    for drop in ["none", "node = 1\n", "data_dir = \"/data\"\n"] {
        let text = nodes(2, "").replace(drop, "");
        let config = Config::parse(&text, "f", &overrides).unwrap();
        assert_eq!((config.node, config.log_level), (NodeId(2), log::LevelFilter::Warn));
        assert_eq!(config.data_dir, Path::new("/other"));
        assert_eq!(config.trace.as_deref(), Some(Path::new("/trace")));
    }
    let error = |overrides: &Overrides| {
        Config::parse(&nodes(2, ""), "f", overrides).expect_err("must fail").to_string()
    };
    assert_eq!(
        error(&Overrides { node: Some(9), ..overrides.clone() }),
        "--node 9: must be the id of one of the [[nodes]]: 1, 2 (f)"
    );
    assert_eq!(
        error(&Overrides { log_level: Some("loud".into()), ..overrides.clone() }),
        "--log-level loud: must be error, warn, info, debug or trace"
    );
    assert_eq!(
        error(&Overrides { data_dir: Some("".into()), ..overrides }),
        "--data-dir \"\": must be a path, not empty"
    );
}

#[test]
fn errors_name_the_key_the_value_and_what_is_allowed() {
    for (lines, expected) in [
        (
            "[timing]\nelection_timeout_ms = 0",
            "timing.election_timeout_ms = 0: must be 10 to 60000",
        ),
        (
            "[timing]\nelection_timeout_ms = 60001",
            "timing.election_timeout_ms = 60001: must be 10 to 60000",
        ),
        (
            "[timing]\nelection_timeout_ms = -5",
            "timing.election_timeout_ms = -5: must be 10 to 60000",
        ),
        (
            "[timing]\nelection_timeout_ms = 50.0",
            "timing.election_timeout_ms = 50.0: must be 10 to 60000",
        ),
        (
            "[timing]\nrequest_timeout_ms = 99",
            "timing.request_timeout_ms = 99: must be 100 to 600000",
        ),
        (
            "[timing]\nelection_timeout_ms = 4000",
            "timing.request_timeout_ms = 5000: must be at least twice timing.election_timeout_ms (4000): set it to 8000 or more",
        ),
        ("[reads]\nway = \"lease\"", "reads.way = \"lease\": needs a lease: set reads.lease_ms"),
        (
            "[reads]\nlease_ms = 49",
            "reads.lease_ms = 49: must be 0, or at least half of timing.election_timeout_ms (100): it is renewed each quarter of that",
        ),
        (
            "[reads]\nway = \"any\"",
            "reads.way = \"any\": must be \"leader\", \"lease\" or \"quorum\"",
        ),
        ("[wal]\nsegment_mib = 7", "wal.segment_mib = 7: must be 8 to 1024"),
        ("[wal]\nsync = \"no\"", "wal.sync = \"no\": must be true or false"),
        ("[store]\nengine = 'tape'", "store.engine = \"tape\": must be \"memory\" or \"rocksdb\""),
        ("[store]\ncache_mib = 7", "store.cache_mib = 7: must be 8 to 1048576"),
        ("[snapshot]\nlog_mib = 0", "snapshot.log_mib = 0: must be 1 to 1048576"),
        ("[limits]\nclients_max = 65537", "limits.clients_max = 65537: must be 1 to 65536"),
        ("[limits]\nwindow_slots = 0", "limits.window_slots = 0: must be 1 to 256"),
        ("[quorum]\nphase1 = 0", "quorum.phase1 = 0: must be 1 to 64"),
        (
            "[quorum]\nphase1 = 2",
            "quorum.phase1 = 2: a phase1 quorum of 2 is impossible with 1 acceptors: change the sizes, or leave both out for majorities",
        ),
        (
            "[timing]\nelection = 1",
            "timing.election = 1: is no key here; the keys are election_timeout_ms, request_timeout_ms",
        ),
        (
            "port = 1",
            "[[nodes]] number 1: port = 1: is no key here; the keys are id, peer_address, client_address, roles",
        ),
        (
            "roles = []",
            "[[nodes]] number 1: roles = []: must list one or more of \"acceptor\", \"leader\", \"replica\", each once",
        ),
        (
            "roles = [\"leader\", \"leader\"]",
            "[[nodes]] number 1: roles = [\"leader\", \"leader\"]: must list one or more of \"acceptor\", \"leader\", \"replica\", each once",
        ),
        (
            "roles = [\"leader\", \"acceptor\"]",
            "nodes: no node has the role replica: change the roles in [[nodes]]",
        ),
    ] {
        assert_eq!(error(&minimal_with(lines)), format!("loggos.toml: {expected}"));
    }
}

#[test]
fn errors_in_the_first_lines_are_told_as_well() {
    for (from, to, expected) in [
        ("\"demo\"", "\"\"", "cluster = \"\": must be 1 to 64 letters, digits or signs, no space"),
        (
            "\"demo\"",
            "\"a b\"",
            "cluster = \"a b\": must be 1 to 64 letters, digits or signs, no space",
        ),
        ("\"demo\"", "5", "cluster = 5: must be a string, in quotes"),
        (
            "cluster = \"demo\"",
            "",
            "cluster is missing: name the cluster, the same at all its nodes",
        ),
        ("node = 1", "", "node is missing: say which of the nodes this is, here or by --node"),
        ("node = 1", "node = 0", "node = 0: must be 1 to 65535"),
        ("node = 1", "node = 2", "node = 2: must be the id of one of the [[nodes]]: 1"),
        (
            "node = 1",
            "clutser = 1",
            "clutser = 1: is no key here; the keys are cluster, node, data_dir, join, log_level, trace, nodes, timing, quorum, reads, wal, snapshot, store, limits, optimisations",
        ),
        ("node = 1", "node = 1\nwal = 3", "wal = 3: must be a table, [wal]"),
        ("node = 1", "node = 1\ntrace = ''", "trace = \"\": must be a path, not empty"),
        (
            "node = 1",
            "node = 1\nlog_level = 'off'",
            "log_level = \"off\": must be error, warn, info, debug or trace",
        ),
        (
            "data_dir = \"/data\"",
            "",
            "data_dir is missing: name the directory of the node's log, here or by --data-dir",
        ),
        (
            "10.0.0.1:7400",
            "localhost:7400",
            "[[nodes]] number 1: peer_address = \"localhost:7400\": must be IP:port, such as 10.0.0.1:7400 or [fd00::1]:7400; host names are not looked up",
        ),
        (
            "10.0.0.1:7400",
            "10.0.0.1:0",
            "[[nodes]] number 1: peer_address = \"10.0.0.1:0\": must have a port from 1 to 65535",
        ),
        (
            "10.0.0.1:7401",
            "10.0.0.1:0",
            "[[nodes]] number 1: client_address = \"10.0.0.1:0\": must have a port from 1 to 65535",
        ),
        (
            "10.0.0.1:7400",
            "0.0.0.0:7400",
            "[[nodes]] number 1: peer_address = \"0.0.0.0:7400\": must be the address under which others reach the node, not all addresses",
        ),
        (
            "10.0.0.1:7401",
            "10.0.0.1:7400",
            "[[nodes]] number 1: client_address = \"10.0.0.1:7400\": is used by [[nodes]] number 1: peer_address too: every address needs a port of its own",
        ),
        ("id = 1", "id = 65536", "[[nodes]] number 1: id = 65536: must be 1 to 65535"),
        ("id = 1", "", "[[nodes]] number 1: id is missing: must be 1 to 65535"),
    ] {
        assert_eq!(error(&MINIMAL.replace(from, to)), format!("loggos.toml: {expected}"));
    }
    assert_eq!(
        error("cluster = 'c'"),
        "loggos.toml: nodes is missing: list every node of the cluster, each in a [[nodes]]"
    );
}

/// A node that cannot do what its file says must not do something else.
#[test]
fn rocksdb_is_refused_where_it_is_not_built_in() {
    assert_eq!(parse(MINIMAL).unwrap().engine, EngineChoice::Memory);
    let text = minimal_with("[store]\nengine = 'rocksdb'\ncache_mib = 9");
    if EngineChoice::HAS_ROCKSDB {
        let engine = EngineChoice::Rocksdb { cache_size: 9 * MIB as usize, compress: true };
        assert_eq!(parse(&text).unwrap().engine, engine);
    } else {
        assert_eq!(
            error(&text),
            "loggos.toml: store.engine = \"rocksdb\": this loggos was built without RocksDB: build it with \
             scripts/rocksdb.sh (cargo's --features rocksdb)"
        );
    }
}

#[test]
fn nodes_are_distinct_and_not_too_many() {
    assert_eq!(parse(&nodes(NODES_MAX, "")).unwrap().nodes.len(), NODES_MAX);
    assert_eq!(
        error(&nodes(NODES_MAX + 1, "")),
        "loggos.toml: nodes = [65 entries]: a cluster has at most 64 nodes"
    );
    assert_eq!(
        error(&nodes(3, "").replace("id = 3", "id = 1")),
        "loggos.toml: [[nodes]] number 3: id = 1: is the id of number 1 too: every node needs its own"
    );
    assert_eq!(
        error(&nodes(3, "").replace("10.0.0.3:7400", "10.0.0.1:7401")),
        "loggos.toml: [[nodes]] number 3: peer_address = \"10.0.0.1:7401\": is used by \
         [[nodes]] number 1: client_address too: every address needs a port of its own"
    );
}

/// Quorums that can miss each other would choose two values for a slot.
#[test]
fn quorums_must_meet() {
    let error = error(&(nodes(5, "") + "[quorum]\nphase1 = 2\nphase2 = 3\n"));
    assert!(error.contains("quorum.phase1 = 2, quorum.phase2 = 3: "), "{error}");
    assert!(error.contains("must be more than the 5 acceptors"), "{error}");
    let flexible = parse(&(nodes(5, "") + "[quorum]\nphase1 = 4\nphase2 = 2\n")).unwrap();
    assert_eq!(
        (
            flexible.configuration.membership().phase1(),
            flexible.configuration.membership().phase2()
        ),
        (4, 2)
    );
}

/// Whatever stands in the file, the error is one line: it goes to a log.
#[test]
fn errors_are_one_line() {
    let unclosed = error("cluster = \"demo\"\nnode = 1\n[timing\n");
    assert!(unclosed.starts_with("loggos.toml: line 3: no valid TOML: "), "{unclosed}");
    let twice = error("node = 1\nnode = 2\n");
    assert!(twice.starts_with("loggos.toml: line 2: no valid TOML: "), "{twice}");
    error("cluster = \"\"\"a\nb\"\"\"");
    error("\"a\\nb\" = 1");
    error("cluster = \"\\u001b[31m\"");
    error(&format!("cluster = \"{}\"", "long ".repeat(1_000)));
    for cut in 0..MINIMAL.len() - 40 {
        error(&MINIMAL[..cut]);
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let load = |path: &Path| Config::load(path, &Overrides::default());
    for path in [dir.path().join("none.toml"), dir.path().to_path_buf()] {
        let error = load(&path).unwrap_err().to_string();
        let expected = format!("{}: the configuration cannot be read: ", path.display());
        assert!(error.starts_with(&expected), "{error}");
    }
    let path = dir.path().join("loggos.toml");
    std::fs::write(&path, MINIMAL).unwrap();
    assert_eq!(load(&path).unwrap().cluster_name, "demo");
    std::fs::write(&path, b"cluster = \"\xff\"").unwrap();
    assert!(load(&path).unwrap_err().to_string().contains("UTF-8"));
}

/// The example is what operators begin with: it works as it stands, its commented keys show the
/// true defaults, and no key is missing from it.
#[test]
fn the_example_is_complete_and_true() {
    let mut short = parse(EXAMPLE).unwrap();
    let full = example_in_full();
    let mut long = parse(&full).unwrap();
    assert_eq!(long.trace.take().as_deref(), Some(Path::new("/var/lib/loggos/trace")));
    // Sizes that are written down come to the same, until the number of acceptors changes.
    let quorums = |config: &Config| config.configuration.membership().clone();
    assert_eq!(quorums(&short), quorums(&long));
    short.configuration = long.configuration.clone();
    assert_eq!(format!("{short:?}"), format!("{long:?}"));

    let table: Table = full.parse().unwrap();
    for (section, keys) in KEYS {
        let table = match section {
            "" => &table,
            "nodes" => table["nodes"][0].as_table().unwrap(),
            _ => table[section].as_table().unwrap(),
        };
        for key in keys {
            assert!(table.contains_key(*key), "{section}.{key} is not in the example");
        }
    }
    for (key, range) in [
        ("node", &NODE_IDS),
        ("id", &NODE_IDS),
        ("election_timeout_ms", &ELECTION_TIMEOUT_MS),
        ("request_timeout_ms", &REQUEST_TIMEOUT_MS),
        ("phase1", &QUORUM_SIZES),
        ("phase2", &QUORUM_SIZES),
        ("segment_mib", &SEGMENT_MIB),
        ("clients_max", &CLIENTS),
        ("window_slots", &WINDOW_SLOTS),
    ] {
        // The comment stands above the key, behind an empty line.
        let at = EXAMPLE.find(&format!("{key} = ")).unwrap();
        let comment = EXAMPLE[..at].rsplit("\n\n").next().unwrap();
        let expected = format!("{} to {}", range.start(), range.end());
        assert!(comment.contains(&expected), "{key}: {expected} is not in: {comment}");
    }
}

/// A key that is listed and not read would be accepted with any value.
#[test]
fn every_key_is_read() {
    for (section, keys) in KEYS {
        for key in keys {
            let mut table: Table = example_in_full().parse().unwrap();
            let place = match section {
                "" => &mut table,
                "nodes" => table["nodes"][0].as_table_mut().unwrap(),
                _ => table[section].as_table_mut().unwrap(),
            };
            place.insert(key.to_string(), Value::Array(vec![]));
            assert!(error(&table.to_string()).contains(key));
        }
    }
}
