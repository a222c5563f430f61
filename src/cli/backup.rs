//! `backup`, `restore`, `verify` and `snapshot`: the state of a cluster as a file, and back.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::args::{BackupArgs, RestoreArgs, SnapshotArgs, VerifyArgs};
use super::server::snapshot_failure;
use super::{Failure, code, output, server};
use crate::client::Client;
use crate::snapshot::{self, Loaded, SnapshotDir, Summary};

/// Has a node take a snapshot, copies it here and checks it.
pub fn backup(args: &BackupArgs, nodes: &[SocketAddr], out: &mut dyn Write) -> Result<(), Failure> {
    if args.file.exists() {
        let file = args.file.display();
        return Err(Failure::usage(format!("{file} exists already: a backup overwrites nothing")));
    }
    // Whole or not there: what was interrupted leaves a file that nobody takes for a backup.
    let mut part = args.file.clone().into_os_string();
    part.push(".part");
    let part = PathBuf::from(part);
    let summary = fetch(&part, args, nodes).and_then(|summary| {
        finish(&part, &args.file)?;
        Ok(summary)
    });
    let summary = summary.inspect_err(|_| {
        let _ = fs::remove_file(&part);
    })?;
    tell(&summary, args.snapshot.json, out)
}

fn fetch(part: &Path, args: &BackupArgs, nodes: &[SocketAddr]) -> Result<Summary, Failure> {
    let file = File::options().write(true).create(true).truncate(true).open(part);
    let file = file.map_err(|error| disk("create", part, &error))?;
    let mut client = Client::new(nodes, args.snapshot.timeout);
    let (id, node) = client.fetch_snapshot(&file, &mut |_, _| {})?;
    file.sync_all().map_err(|error| disk("write", part, &error))?;
    let mut file = File::open(part).map_err(|error| disk("read", part, &error))?;
    let summary = snapshot::verify(&mut io::BufReader::new(&mut file));
    let summary = summary.map_err(|error| snapshot_failure(&error, &format!("{node} sent")))?;
    if summary.id() == id {
        Ok(summary)
    } else {
        let message = format!("{node} sent another snapshot than it said");
        Err(Failure { code: code::CHECK, message })
    }
}

fn finish(part: &Path, path: &Path) -> Result<(), Failure> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::rename(part, path)
        .and_then(|()| File::open(dir)?.sync_all())
        .map_err(|error| disk("write", path, &error))
}

/// Checks every byte of a backup or of a node's snapshot.
pub fn verify(args: &VerifyArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let mut file = File::open(&args.file).map_err(|error| disk("read", &args.file, &error))?;
    let summary = snapshot::verify(&mut io::BufReader::new(&mut file));
    let path = args.file.display().to_string();
    tell(&summary.map_err(|error| snapshot_failure(&error, &path))?, args.json, out)
}

/// Makes the data directory of one node of a new cluster.
pub fn restore(args: &RestoreArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let new = server::restored(&args.serve)?;
    let (identity, data_dir) = (new.identity, &new.data_dir);
    if server::is_data_dir(data_dir) {
        let dir = data_dir.display();
        return Err(Failure::usage(format!("{dir} is a node's already: restore into a new one")));
    }
    let mut file = File::open(&args.file).map_err(|error| disk("read", &args.file, &error))?;
    let path = args.file.display().to_string();
    let engine = new.engine.open(data_dir).map_err(|error| disk("create", data_dir, &error))?;
    let loaded = snapshot::load_into(&engine, &mut io::BufReader::new(&mut file));
    let Loaded { store, summary } = loaded.map_err(|error| snapshot_failure(&error, &path))?;
    if summary.head.cluster == identity.cluster {
        return Err(Failure::usage(format!(
            "{path} is of a cluster named {:?}: give the new one another name, or nodes of the old \
             one could meet it",
            new.cluster_name
        )));
    }
    fs::create_dir_all(data_dir).map_err(|error| disk("create", data_dir, &error))?;
    // The snapshot first: only the log makes the directory a node's.
    let configurations = new.configurations(store.applied());
    let summary = SnapshotDir::open(data_dir)
        .and_then(|dir| dir.write(&store.freeze(), identity.cluster, configurations))
        .map_err(|error| snapshot_failure(&error, "restoring"))?;
    server::create_log(data_dir, identity)?;
    if !args.json {
        let dir = data_dir.display();
        output::print(out, &format!("{dir} is the data directory of {identity}\n"))?;
    }
    tell(&summary, args.json, out)
}

/// Has a node take a snapshot now, and keep it.
pub fn take(args: &SnapshotArgs, nodes: &[SocketAddr], out: &mut dyn Write) -> Result<(), Failure> {
    let (id, node) = Client::new(nodes, args.timeout).snapshot()?;
    let text = if args.json {
        let object = json!({ "node": node.0, "slot": id.slot.0, "size": id.size,
            "checksum": format!("{:032x}", id.checksum) });
        format!("{object}\n")
    } else {
        format!("{node} has a snapshot of slot {}: {} bytes\n", id.slot, id.size)
    };
    output::print(out, &text)
}

fn tell(summary: &Summary, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let Summary { head, keys, sessions, size, checksum } = summary;
    let (cluster, digest) = (format!("{:016x}", head.cluster.0), format!("{:032x}", head.digest));
    let checksum = format!("{checksum:032x}");
    let text = if json {
        let object = json!({ "cluster": cluster, "slot": head.slot.0, "keys": keys,
            "sessions": sessions, "size": size, "digest": digest, "checksum": checksum });
        format!("{object}\n")
    } else {
        format!(
            "cluster {cluster}, slot {}: {keys} keys, {sessions} sessions, {size} bytes\n\
             digest   {digest}\nchecksum {checksum}\n",
            head.slot
        )
    };
    output::print(out, &text)
}

fn disk(doing: &str, path: &Path, error: &io::Error) -> Failure {
    let code = match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => code::USAGE,
        _ => code::DISK,
    };
    Failure { code, message: format!("cannot {doing} {}: {error}", path.display()) }
}
