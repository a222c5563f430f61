//! A load that shows lost and doubled commands: each worker increments a counter of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use loggos::client::{Client, Error};
use loggos::store::{Command, Query, Reply};
use loggos::wire::client::Consistency;

use super::{Cluster, Deadline};

/// Workers that increment counters until they are stopped.
pub struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    workers: Vec<JoinHandle<Counted>>,
}

/// What one worker knows of its counter.
struct Counted {
    key: Vec<u8>,
    acknowledged: i64,
    /// Increments whose outcome is not known.
    unknown: i64,
}

impl Load {
    pub fn start(cluster: &Cluster, workers: usize) -> Load {
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let workers = (0..workers)
            .map(|worker| {
                let (stop, total) = (stop.clone(), acknowledged.clone());
                let mut client = cluster.client();
                std::thread::spawn(move || {
                    let key = format!("counter-{worker}").into_bytes();
                    let mut counted = Counted { key, acknowledged: 0, unknown: 0 };
                    while !stop.load(Ordering::Relaxed) {
                        match client.execute(&Command::Incr { key: &counted.key, by: 1 }) {
                            Ok(answer) => {
                                counted.acknowledged += 1;
                                total.fetch_add(1, Ordering::Relaxed);
                                let Reply::Integer(value) = answer.reply else {
                                    panic!("an increment answered {:?}", answer.reply)
                                };
                                assert!(counted.acknowledged <= value);
                                assert!(value <= counted.acknowledged + counted.unknown);
                            }
                            Err(Error::Definite(_)) => {}
                            Err(Error::Indefinite(_)) => counted.unknown += 1,
                        }
                    }
                    counted
                })
            })
            .collect();
        Load { stop, acknowledged, workers }
    }

    /// Waits until this many more increments are acknowledged.
    pub fn wait_for_progress(&self, more: u64) {
        let target = self.acknowledged.load(Ordering::Relaxed) + more;
        let deadline = Deadline::start();
        loop {
            let reached = self.acknowledged.load(Ordering::Relaxed);
            if target <= reached {
                return;
            }
            assert!(!deadline.left().is_zero(), "{reached} of {target} increments in time");
            assert!(
                self.workers.iter().any(|worker| !worker.is_finished()),
                "all workers ended before {target} increments"
            );
            std::thread::yield_now();
        }
    }

    pub fn finish(self, cluster: &Cluster) {
        self.stop.store(true, Ordering::Relaxed);
        let mut client = cluster.client();
        for worker in self.workers {
            let counted = worker.join().expect("a worker does not fail");
            assert!(0 < counted.acknowledged);
            let value = counter(&mut client, &counted.key);
            assert!(
                counted.acknowledged <= value && value <= counted.acknowledged + counted.unknown,
                "{} of {} acknowledged increments ({} unknown) are there",
                value,
                counted.acknowledged,
                counted.unknown
            );
        }
        cluster.assert_agreement();
    }
}

pub fn counter(client: &mut Client, key: &[u8]) -> i64 {
    let answer = client.query(&Query::Get { key }, Consistency::Linearizable).expect("a read");
    let Reply::Value(value) = answer.reply else { panic!("a get answered {:?}", answer.reply) };
    let value = value.map_or_else(|| "0".into(), |v| String::from_utf8(v).expect("digits"));
    value.parse().expect("a number")
}
