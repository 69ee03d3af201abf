//! What is kept of a run: what was injected, the last events, and a hash of all of them.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::{self, Write as _},
};

use tollgate::authorization::pool::PoolKey;

use crate::{
    database::Statement,
    queue::{Micros, SECOND},
    world::{Answer, Work},
};

/// The last events that are shown with a violation.
const SHOWN: usize = 40;

/// How often what happened, by kind.
#[derive(Debug, Default, Clone)]
pub struct Faults(pub BTreeMap<&'static str, u64>);

impl Faults {
    pub fn count(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    pub fn add(&mut self, other: &Self) {
        for (what, times) in &other.0 {
            *self.0.entry(what).or_default() += times;
        }
    }
}

/// What happened.
pub struct Log {
    pub last: VecDeque<String>,
    pub events: u64,
    pub hash: u64,
    pub now: Micros,
    print: bool,
}

impl Log {
    pub fn new(print: bool) -> Self {
        // FNV-1a: only ever compared with another run of the same program.
        Self { last: VecDeque::new(), events: 0, hash: 0xcbf2_9ce4_8422_2325, now: 0, print }
    }

    pub fn tick(&mut self, now: Micros) {
        self.events += 1;
        self.now = now;
        self.mix(&now.to_le_bytes());
    }

    pub fn note(&mut self, text: fmt::Arguments<'_>) {
        let mut line = String::new();
        let (seconds, micros) = (self.now / SECOND, self.now % SECOND);
        write!(line, "{seconds:>5}.{micros:06} {text}").expect("a string takes all");
        self.mix(line.as_bytes());
        if self.print {
            println!("{line}");
        }
        if self.last.len() == SHOWN {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    fn mix(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Renew(_, asked, _) => {
                write!(to, "renew")?;
                for one in asked {
                    let (of, renewal) = (&one.key, &one.renewal);
                    let of = match of {
                        PoolKey::Funds => "funds".to_owned(),
                        PoolKey::Budget(period) => {
                            format!("{}/{}", short(&period.budget.0), period.start)
                        }
                    };
                    write!(to, " {}:{of}", short(&one.account.0))?;
                    write!(to, " #{} kept {}", renewal.sequence, renewal.kept)?;
                    write!(to, " need {} want {}", renewal.need, renewal.want)?;
                }
                Ok(())
            }
            Self::Post(batch) => {
                write!(to, "post")?;
                for event in &batch.events {
                    write!(to, " {} for {}", short(&event.event_id.0), event.charge)?;
                }
                Ok(())
            }
            Self::Stored(places) => write!(to, "read {} events", places.len()),
            Self::KeepUnsettled(places) => write!(to, "keep {} unsettled", places.len()),
            Self::Beat { heard, .. } => write!(to, "beat, heard {heard}"),
            other => {
                let text = format!("{other:?}");
                write!(to, "{}", text.chars().take(120).collect::<String>())
            }
        }
    }
}

impl fmt::Display for Work {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authorize(ask) | Self::Probe { ask, .. } => {
                write!(to, "authorize with {}: model {}", short(&ask.key.0), ask.model)?;
                write!(to, ", {}+{} tokens", ask.input, ask.output)
            }
            Self::Extend { claims, wanted, .. } => {
                write!(to, "extend {} to {wanted} tokens", short(&claims.authorization_id.0))
            }
            Self::Record { claims, used: None } => {
                write!(to, "cancel {}", short(&claims.authorization_id.0))
            }
            Self::Record { claims, used: Some(used) } => {
                let (prompt, answer) = (used.input + used.cache_read, used.output + used.reasoning);
                write!(to, "record {}", short(&claims.authorization_id.0))?;
                write!(to, ", {prompt}+{answer} tokens, {} reserved", claims.reserved)
            }
            Self::Operate(order) => write!(to, "{order:?}"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Granted(claims) => {
                write!(to, "granted {}", short(&claims.authorization_id.0))?;
                write!(to, ", {} tokens, {}", claims.max_output_tokens, claims.reserved)
            }
            other => write!(to, "{other:?}"),
        }
    }
}

/// The end of an id, which tells those of a run apart.
fn short(id: &uuid::Uuid) -> String {
    id.simple().to_string().split_off(26)
}
