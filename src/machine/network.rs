//! How long a message takes to another process of this machine and back, over loopback, as nodes and clients
//! of one machine talk to each other: what no request can be faster than.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use super::{Clock, Timed};

/// Bytes of the messages that go to and fro.
pub const SIZES: [usize; 3] = [64, 256, 4096];
/// Bytes of each write of the stream.
const STREAM_STEP_SIZE: usize = 64 << 10;

/// Round trips of messages of this size, one after the other, for so long.
pub fn round_trips(size: usize, lasts: Duration) -> io::Result<Timed> {
    let (mut near, mut far) = connected()?;
    let echo = thread::spawn(move || {
        let mut message = vec![0; size];
        while far.read_exact(&mut message).and_then(|()| far.write_all(&message)).is_ok() {}
    });
    let mut message = vec![0; size];
    let mut clock = Clock::start();
    loop {
        near.write_all(&message)?;
        near.read_exact(&mut message)?;
        if lasts.as_nanos() <= u128::from(clock.lap()) {
            break;
        }
    }
    drop(near);
    echo.join().expect("it only reads and writes");
    Ok(clock.timed())
}

/// Bytes a second in one direction.
pub fn stream(lasts: Duration) -> io::Result<f64> {
    let (mut near, mut far) = connected()?;
    let sink = thread::spawn(move || {
        let mut bytes = vec![0; STREAM_STEP_SIZE];
        let mut total = 0;
        while let Ok(n @ 1..) = far.read(&mut bytes) {
            total += n;
        }
        total
    });
    let bytes = vec![0; STREAM_STEP_SIZE];
    let mut clock = Clock::start();
    loop {
        near.write_all(&bytes)?;
        if lasts.as_nanos() <= u128::from(clock.lap()) {
            break;
        }
    }
    drop(near);
    let total = sink.join().expect("it only reads");
    clock.lap();
    Ok(total as f64 / clock.timed().seconds)
}

fn connected() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    let (far, _) = listener.accept()?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    Ok((near, far))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_go_to_and_fro() {
        let timed = round_trips(64, Duration::from_millis(20)).unwrap();
        assert!(0 < timed.operations && timed.p50_us <= timed.p99_us);
        assert!(0.0 < stream(Duration::from_millis(20)).unwrap());
    }
}
