//! The flags of `habit bench`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};

/// What to measure.
#[derive(Debug, Clone, Subcommand)]
pub enum Bench {
    /// Measure the time and memory that a gateway adds, against a mock upstream
    Proxy(BenchProxy),
    /// Measure how long memory takes to look something up among many memories
    Recall(BenchRecall),
    /// Run only the mock upstream, for gateways that are started by hand; prints its URL
    Mock {
        /// Listen here; port 0 takes a free one
        #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:0")]
        bind: SocketAddr,
    },
    /// Run only the floor: a relay that passes bytes on and reads none of them; prints its URL
    Relay {
        /// Listen here; port 0 takes a free one
        #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:0")]
        bind: SocketAddr,
        /// What stands behind it, by address
        #[arg(long, value_name = "http://IP:PORT")]
        upstream: String,
    },
}

/// Flags of `bench proxy`.
#[derive(Debug, Clone, Args)]
pub struct BenchProxy {
    /// Also measure this gateway, which runs already; with its process id, its memory too
    #[arg(long, value_name = "NAME=URL[,PID]")]
    pub through: Vec<Through>,
    /// The key that those gateways want
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// The mock that those gateways ask: the URL that `habit bench mock` printed [default: one is started]
    #[arg(long, value_name = "URL")]
    pub upstream: Option<String>,
    /// The model to ask for
    #[arg(long, default_value = "mock")]
    pub model: String,
    /// Leave this gateway itself out
    #[arg(long)]
    pub no_habit: bool,
    /// The core of client and mock, and that of the gateway; `none` pins nothing
    #[arg(long, value_name = "A,B", default_value = "0,1")]
    pub cores: Cores,
    /// Requests of each way in each round
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub requests: usize,
    /// Rounds
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub rounds: usize,
    /// Sizes of requests, in bytes
    #[arg(long, value_name = "BYTES", value_delimiter = ',', default_values_t = [1024, 16 * 1024, 400 * 1024])]
    pub bodies: Vec<usize>,
    /// Connections of the test of capacity; 0 leaves it out
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub connections: usize,
    /// Streams that are open at once in the test of memory; 0 leaves it out
    #[arg(long, value_name = "N", default_value_t = 2000)]
    pub streams: usize,
    /// Write all figures here
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Draw the added time here
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
}

/// Flags of `bench recall`.
#[derive(Debug, Clone, Args)]
pub struct BenchRecall {
    /// Memories of the user who asks
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub memories: usize,
    /// Questions
    #[arg(long, value_name = "N", default_value_t = 300)]
    pub questions: usize,
    /// Turns that are recorded, embedded and indexed to measure the rate of that
    #[arg(long, value_name = "N", default_value_t = 2000)]
    pub index: usize,
    /// Write all figures here
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// A gateway that runs already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Through {
    /// What the tables call it.
    pub name: String,
    /// Its base URL.
    pub url: String,
    /// Its process.
    pub pid: Option<u32>,
}

impl FromStr for Through {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, rest) = text.split_once('=').ok_or("write NAME=URL or NAME=URL,PID")?;
        let (url, pid) = match rest.rsplit_once(',') {
            None => (rest, None),
            Some((url, pid)) => {
                let pid = pid.parse().map_err(|_| format!("`{pid}` is not a process id"))?;
                (url, Some(pid))
            }
        };
        Ok(Self {
            name: name.to_owned(),
            url: url.to_owned(),
            pid,
        })
    }
}

/// Which cores to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cores {
    /// Whatever the system chooses.
    Any,
    /// The client's and the mock's, and the gateway's.
    Pair(usize, usize),
}

impl Cores {
    /// The client's core and the gateway's.
    #[must_use]
    pub fn pair(self) -> (Option<usize>, Option<usize>) {
        match self {
            Self::Any => (None, None),
            Self::Pair(client, gateway) => (Some(client), Some(gateway)),
        }
    }
}

impl FromStr for Cores {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::Any);
        }
        let pair = text
            .split_once(',')
            .and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        let (client, gateway) = pair.ok_or("write two core numbers, as in 0,1, or none")?;
        Ok(Self::Pair(client, gateway))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateways_and_cores_as_people_write_them() {
        let through: Through = "smg=http://127.0.0.1:1,42".parse().unwrap();
        assert_eq!(
            (through.name.as_str(), through.url.as_str(), through.pid),
            ("smg", "http://127.0.0.1:1", Some(42))
        );
        assert_eq!("a=http://h".parse::<Through>().unwrap().pid, None);
        for bad in ["http://h", "a=http://h,x"] {
            assert!(bad.parse::<Through>().is_err(), "{bad}");
        }
        assert_eq!("none".parse(), Ok(Cores::Any));
        assert_eq!("2,3".parse(), Ok(Cores::Pair(2, 3)));
        assert!("2".parse::<Cores>().is_err());
    }
}
