//! The command line: `tollgate <noun> <verb>`, one file per noun.
//!
//! Everything but `serve` is a gRPC client of a running server and knows only the contract. A
//! command parses its flags, makes its calls, puts the answers into a table and prints it; rules
//! live in the server.

use std::{future::Future, path::PathBuf, process::ExitCode};

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::{
    cli::{
        client::Client,
        error::CliError,
        output::{Format, Output},
        tls::TlsArguments,
    },
    config::{OPERATOR_TOKEN_FILE, ServeArguments, default_data_dir},
};

mod account;
mod args;
mod audit;
mod authorization;
mod balance;
mod bench;
mod budget;
pub mod client;
mod completions;
mod credit;
mod credit_note;
mod demo;
mod doctor;
pub mod error;
mod examples;
mod invoice;
mod invoice_export;
mod key;
mod leaked;
mod ledger;
mod model;
pub mod output;
mod payment;
mod personal_data;
mod receivables;
pub mod replay;
mod report;
mod seller;
mod serve;
pub mod tls;
mod token;
mod usage;

/// Where `tollgate serve` listens unless told otherwise.
const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:50051";
const AFTER_HELP: &str = "\
Examples:
  tollgate account create acme --name 'Acme Inc.'
  tollgate key issue acme --name production
  tollgate credit top-up acme 50 --method visa --reference ch_3Qx81
  tollgate balance acme
  tollgate usage summary --account acme --from 30d
  tollgate ledger verify

A command's own examples: tollgate <COMMAND> --help";

/// The billing and credit ledger an AI gateway stands on.
#[derive(Debug, Parser)]
#[command(name = "tollgate", version, about, after_help = AFTER_HELP, max_term_width = 100)]
#[command(propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Connection and output")]
pub struct Global {
    /// The server
    #[arg(long, global = true, env = "TOLLGATE_ENDPOINT", value_name = "URL")]
    #[arg(default_value = DEFAULT_ENDPOINT)]
    pub endpoint: String,
    /// The caller's JWT [default: operator.jwt in the data directory, for a server on this machine]
    #[arg(long, global = true, env = "TOLLGATE_TOKEN", hide_env_values = true, value_name = "JWT")]
    pub token: Option<String>,
    /// The server's data directory [default: as `tollgate serve` has it]
    #[arg(long, global = true, env = "TOLLGATE_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// How it is known that the server is the right one, and to it who connects.
    #[command(flatten)]
    pub tls: TlsArguments,
    /// How results are printed
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    #[command(after_help = serve::EXAMPLES)]
    Serve(Box<ServeArguments>),
    /// Customers and their contracts
    #[command(subcommand, after_help = examples::ACCOUNT)]
    Account(account::AccountCommand),
    /// API keys
    #[command(subcommand, after_help = examples::KEY)]
    Key(key::KeyCommand),
    /// Money in and out of a customer's credits
    #[command(subcommand, after_help = examples::CREDIT)]
    Credit(credit::CreditCommand),
    /// What may be spent in a day, a week, a month or in all
    #[command(subcommand, after_help = examples::BUDGET)]
    Budget(budget::BudgetCommand),
    /// What customers have, owe and can still spend
    Balance(balance::BalanceArgs),
    /// Models and their prices
    #[command(subcommand, after_help = examples::MODEL)]
    Model(model::ModelCommand),
    /// What was used and what it cost
    #[command(subcommand, after_help = examples::USAGE)]
    Usage(usage::UsageCommand),
    /// Ask the gate by hand, as a gateway does
    #[command(subcommand, after_help = examples::AUTHORIZATION)]
    Authorization(authorization::AuthorizationCommand),
    /// Closing months, and the documents that this makes
    #[command(subcommand, after_help = examples::INVOICE)]
    Invoice(invoice::InvoiceCommand),
    /// What finance reads of a month
    #[command(subcommand, after_help = examples::REPORT)]
    Report(report::ReportCommand),
    /// What customers pay for invoices
    #[command(subcommand, after_help = examples::PAYMENT)]
    Payment(payment::PaymentCommand),
    /// Taking back what an invoice asks for
    #[command(subcommand, after_help = examples::CREDIT_NOTE)]
    CreditNote(credit_note::CreditNoteCommand),
    /// Ourselves as invoices name us, and how sales are taxed
    #[command(subcommand, after_help = examples::SELLER)]
    Seller(seller::SellerCommand),
    /// The books
    #[command(subcommand, after_help = examples::LEDGER)]
    Ledger(ledger::LedgerCommand),
    /// Callers' tokens
    #[command(subcommand, after_help = examples::TOKEN)]
    Token(token::TokenCommand),
    /// Who changed what
    #[command(subcommand, after_help = examples::AUDIT)]
    Audit(audit::AuditCommand),
    /// Say what is wrong with this installation, and what to do
    #[command(after_help = doctor::EXAMPLES)]
    Doctor,
    /// Show what it does, against a running server
    Demo(demo::DemoArgs),
    /// Send a recorded request trace through the gate, and prove the books afterwards
    Replay(Box<replay::ReplayArgs>),
    /// Measure how fast it is, against what the wire and the database allow
    Bench(Box<bench::BenchArgs>),
    /// Completions for your shell
    Completions(completions::CompletionsArgs),
}

/// What a command runs with.
#[derive(Debug)]
pub struct Session {
    global: Global,
    /// Where results go.
    pub output: Output,
}

impl Session {
    /// Connects to the server.
    pub async fn connect(&self) -> Result<Client, CliError> {
        Client::connect(&self.global).await
    }

    /// What a shell needs for `tollgate` to be this program and to find the same server.
    fn exports(&self) -> String {
        let program = std::env::current_exe().ok();
        let folder = program.as_deref().and_then(std::path::Path::parent);
        let path = folder.map(|folder| format!("  export PATH={}:$PATH\n", folder.display()));
        let endpoint = Some(&self.global.endpoint).filter(|url| *url != DEFAULT_ENDPOINT);
        let endpoint = endpoint.map(|url| format!("  export TOLLGATE_ENDPOINT={url}\n"));
        let data = self.global.data_dir.as_ref();
        let data = data.map(|data| format!("  export TOLLGATE_DATA_DIR={}\n", data.display()));
        let tls = Some(self.global.tls.exports());
        [path, endpoint, data, tls].into_iter().flatten().collect()
    }

    /// The server's address with the flags before it, and what a shell puts where its token belongs.
    fn grpcurl(&self) -> (String, String) {
        let address = match self.global.endpoint.strip_prefix("https://") {
            Some(address) => format!("{}{address}", self.global.tls.grpcurl_flags()),
            None => format!("-plaintext {}", self.global.endpoint.trim_start_matches("http://")),
        };
        let directory = self.global.data_dir.clone().or_else(default_data_dir);
        let token = match (&self.global.token, directory) {
            (None, Some(directory)) => {
                format!("$(cat {})", directory.join(OPERATOR_TOKEN_FILE).display())
            }
            _ => "$TOLLGATE_TOKEN".to_owned(),
        };
        (address.trim_end_matches('/').to_owned(), token)
    }

    /// Says that a list went on beyond what was shown.
    fn tell_if_more(&self, pages: &args::Pages) -> Result<(), CliError> {
        if pages.has_more() {
            self.output.note("there are more; use --limit N or --all")?;
        }
        Ok(())
    }
}

/// Runs the command line of this process; returns what the process should end with.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return tell_usage(&error),
    };
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when the error stream is closed, too.
            let _ = error.explain(&mut anstream::stderr().lock());
            error.exit_code()
        }
    }
}

/// Help and version are asked for; anything else is a wrong call.
fn tell_usage(error: &clap::Error) -> ExitCode {
    let printed = error.print();
    match (error.use_stderr(), printed) {
        (true, _) => CliError::usage("").exit_code(),
        (false, Err(cause)) => CliError::from(cause).exit_code(),
        (false, Ok(())) => ExitCode::SUCCESS,
    }
}

fn run(cli: Cli) -> Result<(), CliError> {
    let session = Session { output: Output::new(cli.global.output), global: cli.global };
    let session = &session;
    match cli.command {
        Command::Serve(arguments) => serve::run(*arguments, session.global.data_dir.clone()),
        Command::Account(command) => client(account::run(command, session)),
        Command::Key(command) => client(key::run(command, session)),
        Command::Credit(command) => client(credit::run(command, session)),
        Command::Budget(command) => client(budget::run(command, session)),
        Command::Balance(args) => client(balance::run(args, session)),
        Command::Model(command) => client(model::run(command, session)),
        Command::Usage(command) => client(usage::run(command, session)),
        Command::Authorization(command) => client(authorization::run(command, session)),
        Command::Invoice(command) => client(invoice::run(command, session)),
        Command::Report(command) => client(report::run(command, session)),
        Command::Payment(command) => client(payment::run(command, session)),
        Command::CreditNote(command) => client(credit_note::run(command, session)),
        Command::Seller(command) => client(seller::run(command, session)),
        Command::Ledger(command) => client(ledger::run(command, session)),
        Command::Token(command) => client(token::run(command, session)),
        Command::Audit(command) => client(audit::run(command, session)),
        Command::Doctor => client(doctor::run(session)),
        Command::Demo(args) => client(demo::run(args, session)),
        Command::Replay(args) => client(replay::run(*args, session)),
        Command::Bench(args) => client(bench::run(*args, session)),
        Command::Completions(args) => completions::run(&args, &mut Cli::command()),
    }
}

/// A client needs one thread: its work is waiting.
fn client(work: impl Future<Output = Result<(), CliError>>) -> Result<(), CliError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A command's own argument of the same id would be given the global one's value.
    #[test]
    fn no_command_has_an_argument_that_a_global_one_has_already() {
        let global: Vec<String> =
            Cli::command().get_arguments().map(|argument| argument.get_id().to_string()).collect();
        let mut open: Vec<_> = Cli::command().get_subcommands().cloned().collect();
        while let Some(command) = open.pop() {
            for argument in command.get_arguments() {
                let id = argument.get_id().to_string();
                assert!(!global.contains(&id), "{}: {id}", command.get_name());
            }
            open.extend(command.get_subcommands().cloned());
        }
    }

    #[test]
    fn every_command_is_well_formed_and_its_help_has_examples() {
        let mut root = Cli::command();
        root.build();
        root.clone().debug_assert();
        let mut open = vec![root];
        while let Some(command) = open.pop() {
            let verbs: Vec<_> = command
                .get_subcommands()
                .filter(|verb| verb.get_name() != "help")
                .cloned()
                .collect();
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("tollgate "), "{:?} has no example", command.get_name());
            open.extend(verbs);
        }
    }
}
