//! What README shows, typed as it stands there, gives what stands there.

use std::path::Path;
use std::process::Command as Process;

use super::Cluster;

/// Follows the first console of a section of README: each line behind `$ `, in order, against this cluster.
pub fn follow(cluster: &Cluster, section: &str) {
    let readme = include_str!("../../README.md");
    let heading = format!("\n## {section}\n");
    let section = readme.split(&heading).nth(1).expect("README has the section");
    let tour = section.split("```console\n").nth(1).and_then(|it| it.split("```").next());
    let program = Path::new(env!("CARGO_BIN_EXE_loggos"));
    let nodes: Vec<String> = cluster.addresses().iter().map(|it| it.to_string()).collect();
    let mut steps = 0;
    for step in tour.expect("a tour").split("$ ").skip(1) {
        let (line, expected) = step.split_once('\n').expect("a line");
        let path = format!("{}:/usr/bin:/bin", program.parent().unwrap().display());
        let output = Process::new("sh")
            .args(["-c", &format!("{line} 2>&1")])
            .env("PATH", path)
            .env("LOGGOS_NODES", nodes.join(","))
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{line}");
        steps += 1;
    }
    assert!(4 < steps);
}
