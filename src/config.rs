//! Every knob of the server, its default and the reason for it, in one place.
//!
//! [`ServeArguments`] is what flags and variables say; [`Config::build`] checks it all before
//! anything is started, and its errors name the flag, the problem and the remedy. Bounds that
//! nobody should turn live beside the code they bound.

use std::{
    fmt,
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use sqlx::postgres::PgConnectOptions;
use thiserror::Error;

use crate::{
    accounts::contract::MAX_RETENTION_DAYS,
    authorization::{lifetime::Lifetime, limits},
    database::embedded::EmbeddedOptions,
    identity::secret::{SECRET_FILE, Secret, SecretError},
    telemetry::logs::LogFormat,
};

mod tokens;
mod transport;

pub use self::{
    tokens::{TokenArguments, TokenConfig},
    transport::{TlsFiles, TransportArguments},
};

/// Loopback: without a certificate it speaks without TLS, so only this machine reaches it. 50051 is
/// where gRPC tools look first.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:50051";
/// Loopback, and a port of the range that Prometheus exporters use.
pub const DEFAULT_METRICS_LISTEN: &str = "127.0.0.1:9464";
/// Connections for administration. The hot paths and reports own theirs, so that neither stands in
/// another's way; a small Postgres allows 100 in all.
pub const DEFAULT_DATABASE_CONNECTIONS: u32 = 16;
/// Everything an operator wants to know, and nothing per call.
pub const DEFAULT_LOG_FILTER: &str = "info";
/// The operator's token in the data directory, which the command line finds by itself.
pub const OPERATOR_TOKEN_FILE: &str = "operator.jwt";

/// The flags and variables of `tollgate serve`.
#[derive(Debug, Clone, Args)]
pub struct ServeArguments {
    /// Where the embedded Postgres, the secret and the operator's token live. The flag is one of
    /// those that every command has.
    #[arg(skip)]
    pub data_dir: Option<PathBuf>,

    /// Where to serve gRPC
    #[arg(long, value_name = "ADDRESS", env = "TOLLGATE_LISTEN", default_value = DEFAULT_LISTEN)]
    pub listen: SocketAddr,

    /// Where to serve /metrics, or `off`
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "TOLLGATE_METRICS_LISTEN",
        default_value = DEFAULT_METRICS_LISTEN
    )]
    pub metrics_listen: String,

    /// Use this Postgres (15 or newer) instead of the embedded one; not a transaction pooler
    #[arg(long, value_name = "URL", env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<String>,

    /// Connections for administration; the hot paths and reports have their own
    #[arg(
        long,
        value_name = "COUNT",
        env = "TOLLGATE_DATABASE_CONNECTIONS",
        default_value_t = DEFAULT_DATABASE_CONNECTIONS,
        value_parser = clap::value_parser!(u32).range(2..=500)
    )]
    pub database_connections: u32,

    /// Threads that answer calls, each with the connections it was given [default: one per core]
    #[arg(
        long,
        value_name = "COUNT",
        env = "TOLLGATE_CALL_THREADS",
        value_parser = clap::value_parser!(u16).range(1..=256)
    )]
    pub call_threads: Option<u16>,

    /// How long a grant may be used, 1s to 1h; its funds are held for so long
    #[arg(
        long,
        value_name = "SPAN",
        env = "TOLLGATE_AUTHORIZATION_LIFETIME",
        default_value = "15m",
        value_parser = authorization_lifetime
    )]
    pub authorization_lifetime: Duration,

    /// How long after a grant's expiry its usage is still covered by it, 1s to 10m
    #[arg(
        long,
        value_name = "SPAN",
        env = "TOLLGATE_SETTLEMENT_GRACE",
        default_value = "30s",
        value_parser = settlement_grace
    )]
    pub settlement_grace: Duration,

    /// Whether months are closed and invoiced by themselves once they are over, or by hand with
    /// `tollgate invoice close`; nothing is closed before the seller is set
    #[arg(
        long,
        value_name = "WHO",
        env = "TOLLGATE_CLOSING",
        value_enum,
        default_value = "automatic"
    )]
    pub closing: ClosingMode,

    /// Suspend an account whose invoice is more than so many days past due [default: never]
    #[arg(long, value_name = "DAYS", env = "TOLLGATE_OVERDUE_GRACE_DAYS")]
    #[arg(value_parser = clap::value_parser!(u16).range(0..=3650))]
    pub overdue_grace_days: Option<u16>,

    /// For how long details of usage (end user, labels, the provider's usage object) are kept, 1d to
    /// 3650d; an account can say otherwise [default: until they are erased]
    #[arg(long, value_name = "DAYS", env = "TOLLGATE_DETAILS_RETENTION", value_parser = days)]
    pub details_retention: Option<u16>,

    /// The directory of Postgres's server programs [default: the newest installed]
    #[arg(long, value_name = "DIR", env = "TOLLGATE_POSTGRES_BIN")]
    pub postgres_bin: Option<PathBuf>,

    /// Whom root runs the embedded Postgres as [default: postgres]
    #[arg(long, value_name = "USER", env = "TOLLGATE_POSTGRES_USER")]
    pub postgres_user: Option<String>,

    /// Whose tokens are believed.
    #[command(flatten)]
    pub tokens: TokenArguments,

    /// What is spoken on the ports.
    #[command(flatten)]
    pub transport: TransportArguments,

    /// Services that need no token: health, reflection, or none
    /// [default: both with the embedded Postgres, else none]
    #[arg(long, value_name = "SERVICES", env = "TOLLGATE_OPEN", value_delimiter = ',')]
    pub open: Option<Vec<OpenService>>,

    /// Stop when the process that started this one ends; for whoever runs a server for a while
    #[arg(long, hide = true)]
    pub stop_with_parent: bool,

    /// How log lines look
    #[arg(long, value_name = "FORMAT", env = "TOLLGATE_LOG_FORMAT", default_value = "auto")]
    pub log_format: LogFormat,

    /// What is logged: a level, or a list such as tollgate=debug,info
    #[arg(long, value_name = "FILTER", env = "TOLLGATE_LOG", default_value = DEFAULT_LOG_FILTER)]
    pub log: String,
}

/// A service that can be open to everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum OpenService {
    /// Whether the server serves, for load balancers and probes.
    Health,
    /// What the contract is, for tools such as grpcurl.
    Reflection,
    /// Neither.
    None,
}

/// Who closes months.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ClosingMode {
    /// The server, within an hour of when it is possible.
    Automatic,
    /// Somebody, by command or call.
    Manual,
}

/// A configuration that was checked.
#[derive(Clone)]
pub struct Config {
    /// Where gRPC is served.
    pub listen: SocketAddr,
    /// Where `/metrics` is served, if anywhere.
    pub metrics_listen: Option<SocketAddr>,
    /// The files of TLS, where gRPC is served with it.
    pub tls: Option<TlsFiles>,
    /// Where the books are.
    pub database: DatabaseChoice,
    /// Connections for administration.
    pub database_connections: u32,
    /// Threads that answer calls.
    pub call_threads: usize,
    /// How long grants hold.
    pub lifetime: Lifetime,
    /// Whether months are closed once they are over. Months that nobody closes are invoiced by
    /// nobody, so that it is on unless said.
    pub closes_months: bool,
    /// After how many days past due an account is suspended; never where it is not said.
    pub overdue_grace_days: Option<u16>,
    /// For how many days details of usage are kept; until they are erased where it is not said.
    pub details_retention_days: Option<u16>,
    /// Whose tokens are believed.
    pub tokens: TokenConfig,
    /// The file in which an operator's token is left at each start, if any.
    pub operator_token: Option<PathBuf>,
    /// Whether health needs no token.
    pub open_health: bool,
    /// Whether reflection needs no token.
    pub open_reflection: bool,
}

/// Which Postgres.
#[derive(Clone)]
pub enum DatabaseChoice {
    /// A private one, run by this server.
    Embedded(EmbeddedOptions),
    /// The operator's.
    Given(Box<PgConnectOptions>),
}

/// Where the secret that signs tokens comes from.
#[derive(Debug, Clone)]
pub enum SecretSource {
    /// Given by file or variable.
    Given(Secret),
    /// This file, made on the first start.
    OwnFile(PathBuf),
}

/// Why a configuration cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// No data directory was named and none can be guessed.
    #[error("there is no data directory: name one with --data-dir or TOLLGATE_DATA_DIR")]
    NoDataDirectory,
    /// `--metrics-listen` is neither an address nor `off`.
    #[error(
        "--metrics-listen {0:?} is no address; write one like {DEFAULT_METRICS_LISTEN}, or off"
    )]
    MetricsListen(String),
    /// `DATABASE_URL` is not understood. It is not repeated: it may hold a password.
    #[error(
        "DATABASE_URL is not understood: {0}; write it like postgres://USER:PASSWORD@HOST/DATABASE"
    )]
    DatabaseUrl(String),
    /// Another Postgres, but no secret.
    #[error(
        "with DATABASE_URL the secret that signs tokens must be given, so that all servers of one \
         database share it: name its file with --jwt-secret-file or TOLLGATE_JWT_SECRET_FILE"
    )]
    NoSecret,
    /// Two secrets.
    #[error("both {} and {} are set; keep one of them", .0[0], .0[1])]
    TwoSecrets([&'static str; 2]),
    /// The secret cannot be used.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Whoever is between us and a caller would see tokens and API keys.
    #[error(
        "--listen {0} serves other machines, and without TLS whoever is in between reads tokens \
         and API keys: give --tls-certificate and --tls-key, listen on 127.0.0.1, or say \
         --allow-plaintext-beyond-loopback where the network or a proxy protects it"
    )]
    PlaintextCalls(SocketAddr),
    /// Metrics are served without TLS and without a token.
    #[error(
        "--metrics-listen {0} serves other machines, in plaintext and without a token: listen on \
         127.0.0.1, say off, or say --allow-plaintext-beyond-loopback where the network protects it"
    )]
    PlaintextMetrics(SocketAddr),
    /// Our own program, whose hidden mode watches over Postgres, cannot be found.
    #[error("this program cannot find its own file: {0}")]
    OwnProgram(std::io::Error),
}

impl Config {
    /// Checks flags and variables together, and reads what they name.
    pub fn build(arguments: &ServeArguments) -> Result<Self, ConfigError> {
        let metrics_listen = match arguments.metrics_listen.as_str() {
            "off" => None,
            address => {
                Some(address.parse().map_err(|_| ConfigError::MetricsListen(address.to_owned()))?)
            }
        };
        let given_secret = arguments.tokens.given_secret()?;
        let url = arguments.database_url.as_deref().filter(|url| !url.is_empty());
        let is_open = |service| match &arguments.open {
            Some(services) => services.contains(&service),
            None => url.is_none(),
        };
        let (database, secret, operator_token) = if let Some(url) = url {
            let secret = SecretSource::Given(given_secret.ok_or(ConfigError::NoSecret)?);
            (DatabaseChoice::Given(Box::new(parse_url(url)?)), secret, None)
        } else {
            let data_dir = data_dir(arguments.data_dir.as_deref())?;
            let secret = given_secret.map_or_else(
                || SecretSource::OwnFile(data_dir.join(SECRET_FILE)),
                SecretSource::Given,
            );
            let token = data_dir.join(OPERATOR_TOKEN_FILE);
            (DatabaseChoice::Embedded(embedded(arguments, data_dir)?), secret, Some(token))
        };
        Ok(Self {
            listen: arguments.listen,
            metrics_listen,
            tls: arguments.transport.build(arguments.listen, metrics_listen)?,
            database,
            database_connections: arguments.database_connections,
            call_threads: arguments.call_threads.map_or_else(cores, usize::from),
            lifetime: Lifetime {
                authorization: arguments.authorization_lifetime,
                grace: arguments.settlement_grace,
            },
            closes_months: arguments.closing == ClosingMode::Automatic,
            overdue_grace_days: arguments.overdue_grace_days,
            details_retention_days: arguments.details_retention,
            tokens: arguments.tokens.build(secret)?,
            operator_token,
            open_health: is_open(OpenService::Health),
            open_reflection: is_open(OpenService::Reflection),
        })
    }
}

impl fmt::Debug for Config {
    /// Without the database, whose options hold a password.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Config")
            .field("listen", &self.listen)
            .field("metrics_listen", &self.metrics_listen)
            .field("tokens", &self.tokens)
            .field("open_health", &self.open_health)
            .field("open_reflection", &self.open_reflection)
            .finish_non_exhaustive()
    }
}

/// Where Tollgate keeps its data unless told otherwise: the system's place for root, else the
/// user's (XDG base directories).
#[must_use]
pub fn default_data_dir() -> Option<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Some(PathBuf::from("/var/lib/tollgate"));
    }
    let absolute =
        |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .map(|data| data.join("tollgate"))
}

/// The cores that this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn data_dir(named: Option<&Path>) -> Result<PathBuf, ConfigError> {
    named
        .filter(|path| !path.as_os_str().is_empty())
        .map(Path::to_owned)
        .or_else(default_data_dir)
        .ok_or(ConfigError::NoDataDirectory)
}

fn embedded(arguments: &ServeArguments, data_dir: PathBuf) -> Result<EmbeddedOptions, ConfigError> {
    let program = std::env::current_exe().map_err(ConfigError::OwnProgram)?;
    let mut options = EmbeddedOptions::new(data_dir, program);
    options.postgres_bin.clone_from(&arguments.postgres_bin);
    options.run_as.clone_from(&arguments.postgres_user);
    Ok(options)
}

fn authorization_lifetime(text: &str) -> Result<Duration, String> {
    span(text, Duration::from_secs(1)..=limits::LONGEST_AUTHORIZATION_LIFETIME)
}

fn settlement_grace(text: &str) -> Result<Duration, String> {
    span(text, Duration::from_secs(1)..=limits::LONGEST_SETTLEMENT_GRACE)
}

/// Whole days, 1 to [`MAX_RETENTION_DAYS`].
fn days(text: &str) -> Result<u16, String> {
    let digits = text.strip_suffix('d').filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
    let days = digits.and_then(|digits| digits.parse::<u16>().ok());
    days.filter(|days| (1..=MAX_RETENTION_DAYS).contains(&u32::from(*days)))
        .ok_or_else(|| format!("write days such as 400d, from 1d to {MAX_RETENTION_DAYS}d"))
}

/// Whole seconds, minutes or hours within bounds.
fn span(text: &str, bounds: RangeInclusive<Duration>) -> Result<Duration, String> {
    let seconds = |digits: &str, unit: u64| {
        let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse::<u64>().ok().filter(|_| is_number)?.checked_mul(unit)
    };
    let span = [("s", 1), ("m", 60), ("h", 3_600)]
        .iter()
        .find_map(|(suffix, unit)| seconds(text.strip_suffix(suffix)?, *unit))
        .map(Duration::from_secs)
        .ok_or_else(|| "write a span such as 30s, 15m or 1h".to_owned())?;
    if !bounds.contains(&span) {
        let (least, most) = (bounds.start().as_secs(), bounds.end().as_secs());
        return Err(format!("it must be from {least}s to {most}s"));
    }
    Ok(span)
}

fn parse_url(url: &str) -> Result<PgConnectOptions, ConfigError> {
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(ConfigError::DatabaseUrl("it is no postgres:// URL".to_owned()));
    }
    url.parse().map_err(|error: sqlx::Error| {
        // The parser's own words, one level down, name the part and do not repeat the URL.
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        ConfigError::DatabaseUrl(cause.unwrap_or_else(|| "a part of it is wrong".to_owned()))
    })
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
