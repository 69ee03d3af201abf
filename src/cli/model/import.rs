//! `tollgate model import`: a price file is read here, whole or not at all, and published in one
//! call, so that the server has all of it or nothing.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use clap::{Args, ValueEnum};

use crate::{
    api::catalog_convert::publication_message,
    catalog::{
        import::{self, Context, Format, Import},
        shipped,
    },
    cli::{
        Session,
        args::{self, Idempotency},
        error::CliError,
        output::{Table, Value, text},
    },
    clock,
    proto::PublishPricesResponse,
};

const EXAMPLES: &str = "\
A file that is broken anywhere is not imported at all. Importing the same again changes nothing.

Examples:
  tollgate model import --shipped
  tollgate model import prices.csv --effective-from 2026-12-01
  tollgate model import model-prices.json --format model-prices
  curl -s https://openrouter.ai/api/v1/models | tollgate model import - --format openrouter
  tollgate model import prices.json --dry-run";
/// Skipped places that people are shown; JSON and CSV have all.
const SHOWN_NOTES: usize = 20;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct ImportArgs {
    /// The price file; - reads the standard input
    #[arg(required_unless_present = "shipped")]
    file: Option<PathBuf>,
    /// The catalogue of 184 models that comes with this program
    #[arg(long, conflicts_with_all = ["file", "format"])]
    shipped: bool,
    /// What the file is
    #[arg(long, value_enum, default_value = "tollgate")]
    format: FileFormat,
    /// When prices begin that carry no date [default: now]
    #[arg(long, value_name = "TIME", value_parser = args::parse_deadline)]
    effective_from: Option<DateTime<Utc>>,
    /// Read and report, but publish nothing; needs no server
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    idempotency: Idempotency,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FileFormat {
    /// Our own JSON or CSV
    Tollgate,
    /// The data file of the model-prices package
    ModelPrices,
    /// The answer of `OpenRouter`'s `/api/v1/models`
    Openrouter,
    /// `LiteLLM`'s `model_prices_and_context_window.json`
    Litellm,
}

impl From<FileFormat> for Format {
    fn from(format: FileFormat) -> Self {
        match format {
            FileFormat::Tollgate => Self::Tollgate,
            FileFormat::ModelPrices => Self::ModelPrices,
            FileFormat::Openrouter => Self::OpenRouter,
            FileFormat::Litellm => Self::LiteLlm,
        }
    }
}

pub(super) async fn run(args: ImportArgs, session: &Session) -> Result<(), CliError> {
    let import = read(&args)?;
    let published = if args.dry_run {
        None
    } else {
        let request = publication_message(&import, &args.idempotency.key());
        let mut catalog = session.connect().await?.catalog();
        Some(catalog.publish_prices(request).await?.into_inner())
    };
    report(&import, published.as_ref(), session)
}

fn read(args: &ImportArgs) -> Result<Import, CliError> {
    let now = clock::now();
    let Some(path) = &args.file else {
        return shipped::read().map_err(|problem| CliError::failed(problem.to_string()));
    };
    let (name, file) = (path.display().to_string(), args::read_text(path)?);
    let context = Context {
        effective_from: args.effective_from.unwrap_or(now),
        source: name.clone(),
        source_date: now.format("%Y-%m-%d").to_string(),
    };
    import::read(args.format.into(), &file, &context)
        .map_err(|problem| CliError::failed(format!("{name} was not imported: {problem}")))
}

/// What was imported, and what was skipped and why.
fn report(
    import: &Import,
    published: Option<&PublishPricesResponse>,
    session: &Session,
) -> Result<(), CliError> {
    let found = &import.report;
    let count = |count: usize| Value::Count(count as u64);
    let mut fields = vec![
        ("models_in_file", count(found.models)),
        ("prices_in_file", count(found.prices)),
        ("withdrawals", count(found.withdrawn)),
        ("free_models", count(found.free.len())),
        ("deprecated_models", count(found.deprecated.len())),
        ("removed_models", count(found.removed.len())),
        ("skipped", count(found.skipped.len())),
        ("changed", count(found.changed.len())),
    ];
    match published {
        Some(published) => fields.extend([
            ("models_added", Value::Count(published.models_added.into())),
            ("models_updated", Value::Count(published.models_updated.into())),
            ("prices_added", Value::Count(published.prices_added.into())),
            ("prices_unchanged", Value::Count(published.prices_unchanged.into())),
        ]),
        None => fields.push(("published", text("nothing: a dry run"))),
    }
    let mut notes = Table::list("notes", &["what", "where", "why"]);
    let all = [("skipped", &found.skipped), ("changed", &found.changed), ("note", &found.remarks)];
    let mut left_out = 0_usize;
    for (what, list) in all {
        for (index, note) in list.iter().enumerate() {
            if session.output.is_for_people() && index >= SHOWN_NOTES {
                left_out += 1;
                continue;
            }
            notes.row([text(what), text(&note.place), text(&note.text)]);
        }
    }
    let summary = Table::record("import", fields);
    if notes.is_empty() && session.output.is_for_people() {
        return session.output.show(&summary);
    }
    session.output.show_all(&[summary, notes])?;
    if left_out > 0 {
        session.output.note(&format!("{left_out} more notes: --output json shows all of them"))?;
    }
    Ok(())
}
