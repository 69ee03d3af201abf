//! `tollgate demo`: a day at the gate in a minute, against a running server.
//!
//! It publishes the shipped prices, makes a startup that pays in advance and an enterprise that
//! pays by invoice, sends what a gateway would send for them, and shows what the books make of it.
//! Every answer is compared with the expected one, so that the demo fails where the product does.
//! Each run makes customers of its own, so that it can be run again and tells the same story.
//!
//! | file | what |
//! |---|---|
//! | `world` | prices, customers, keys, money |
//! | `gateway` | asking the gate and recording usage |
//! | `served` | what is let through |
//! | `denied` | what is not, and why |
//! | `invoice` | what the month will be invoiced as |
//! | `books` | balances, usage, trial balance, verification |

mod books;
mod denied;
mod gateway;
mod invoice;
mod served;
mod world;

use clap::Args;

use crate::cli::{
    Session,
    error::CliError,
    output::{Output, Table, line},
};

const EXAMPLES: &str = "\
Needs a running server; scripts/demo builds one, starts it and runs this.

Examples:
  tollgate demo
  tollgate demo --next";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct DemoArgs {
    /// End with commands to paste, for a server that goes on running
    #[arg(long)]
    next: bool,
}

/// What the demo shows: at once for people, together at the end for programs.
#[derive(Debug)]
struct Stage {
    output: Output,
    kept: Vec<Table>,
}

impl Stage {
    /// Begins a chapter.
    fn chapter(&self, title: &str, about: &str) -> Result<(), CliError> {
        if self.output.is_for_people() {
            line(&format!("\n\u{1b}[1;36m{title}\u{1b}[0m\n{about}\n"))?;
        }
        Ok(())
    }

    fn show(&mut self, table: Table) -> Result<(), CliError> {
        if self.output.is_for_people() {
            return self.output.show(&table);
        }
        self.kept.push(table);
        Ok(())
    }

    /// A sentence between tables.
    fn say(&self, sentence: &str) -> Result<(), CliError> {
        if self.output.is_for_people() { line(sentence) } else { Ok(()) }
    }

    fn finish(self) -> Result<(), CliError> {
        if self.output.is_for_people() { Ok(()) } else { self.output.show_all(&self.kept) }
    }
}

pub(super) async fn run(args: DemoArgs, session: &Session) -> Result<(), CliError> {
    let client = session.connect().await?;
    let mut stage = Stage { output: session.output, kept: Vec::new() };
    invoice::seller(&client).await?;
    let world = world::build(&client, &mut stage).await?;
    served::run(&client, &world, &mut stage).await?;
    denied::run(&client, &world, &mut stage).await?;
    invoice::run(&client, &world, &mut stage).await?;
    books::run(&client, &world, &mut stage).await?;
    if args.next {
        stage.say(&world.next_commands(session))?;
    }
    stage.finish()
}
