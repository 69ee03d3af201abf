//! Documents as files.

use std::io::{Cursor, Read as _};

use tollgate::{
    cli::client::Client,
    ids::AccountId,
    proto::{
        Contract, ExportFormat, ExportInvoiceRequest, GetInvoiceRequest, PaymentTerms,
        export_invoice_request::What,
    },
};
use tonic::{Code, Status};

use super::{
    Customer, close, customer, documents, german, month, name, noon, set_tax_rate, work, world,
};
use crate::{
    cli::Shell,
    harness::{
        server::refusal,
        world::{World, top_up, usd},
    },
};

/// A file as it came.
pub(crate) struct Exported {
    pub(crate) bytes: Vec<u8>,
    file_name: String,
    content_type: String,
}

impl Exported {
    pub(super) fn text(&self) -> String {
        String::from_utf8(self.bytes.clone()).unwrap()
    }
}

pub(crate) async fn export(
    client: &Client,
    what: Option<What>,
    format: ExportFormat,
) -> Result<Exported, Status> {
    export_of(client, what, "", format.into()).await
}

async fn export_of(
    client: &Client,
    what: Option<What>,
    account: &str,
    format: i32,
) -> Result<Exported, Status> {
    let request = ExportInvoiceRequest { what, account: account.to_owned(), format };
    let mut pieces = client.billing().export_invoice(request).await?.into_inner();
    let first = pieces.message().await?.unwrap();
    let (mut bytes, file_name, content_type) = (first.data, first.file_name, first.content_type);
    while let Some(piece) = pieces.message().await? {
        assert!(piece.data.len() <= 1024 * 1024 && piece.file_name.is_empty());
        bytes.extend(piece.data);
    }
    Ok(Exported { bytes, file_name, content_type })
}

#[expect(clippy::unnecessary_wraps, reason = "a message's fields are options")]
pub(crate) fn invoice(number: &str) -> Option<What> {
    Some(What::Invoice(number.to_owned()))
}

#[expect(clippy::unnecessary_wraps, reason = "a message's fields are options")]
fn period(name: &str) -> Option<What> {
    Some(What::Period(name.to_owned()))
}

/// A German month of two customers, one of which has prepaid credits with tax: `acme`, `umbrella`.
async fn a_month() -> (World, Customer, Customer) {
    let world = world().await;
    let client = &world.client;
    set_tax_rate(client, "DE", "19", true).await;
    let net_30 = Contract {
        payment_terms: PaymentTerms::Net30.into(),
        credit_limit: usd("10000"),
        purchase_order: "PO-4711".to_owned(),
        ..Contract::default()
    };
    let acme = customer(client, "acme", german(net_30)).await;
    let umbrella = customer(client, "umbrella", german(Contract::default())).await;
    top_up(client, "umbrella", "119").await;
    for customer in [&acme, &umbrella] {
        work(client, customer, noon(month(1), 3), 1_234_567, 50_000).await.unwrap();
    }
    close(client, month(1)).await;
    (world, acme, umbrella)
}

#[tokio::test]
async fn an_invoice_is_exported_in_every_format_and_each_time_the_same() {
    let (world, ..) = a_month().await;
    let client = &world.client;
    let number = documents(client, "acme").await[0].number.clone();
    for (format, extension, content_type, expected) in [
        (ExportFormat::Pdf, "pdf", "application/pdf", "%PDF-1.7"),
        (ExportFormat::Ubl, "ubl.xml", "application/xml", "PO-4711"),
        (ExportFormat::Cii, "cii.xml", "application/xml", "rsm:CrossIndustryInvoice"),
        (ExportFormat::Csv, "csv", "text/csv; charset=utf-8", "input tokens"),
        (ExportFormat::Json, "json", "application/json", "\"purchase_order\":\"PO-4711\""),
    ] {
        let first = export(client, invoice(&number), format).await.unwrap();
        assert_eq!(first.file_name, format!("{number}.{extension}"));
        assert_eq!(first.content_type, content_type);
        let found = first.bytes.windows(expected.len()).any(|part| part == expected.as_bytes());
        assert!(found, "{format:?} without {expected}");
        let again = export(client, invoice(&number), format).await.unwrap();
        assert!(first.bytes == again.bytes, "{format:?} differs");
    }
    let frozen = GetInvoiceRequest { invoice: number.clone() };
    let frozen = client.billing().get_invoice(frozen).await.unwrap().into_inner().invoice.unwrap();
    let json = export(client, invoice(&number), ExportFormat::Json).await.unwrap();
    assert_eq!(json.text(), frozen.json);
}

#[tokio::test]
async fn a_prepayment_invoice_is_one_and_a_usage_statement_is_no_tax_document() {
    let (world, ..) = a_month().await;
    let client = &world.client;
    let listed = documents(client, "umbrella").await;
    let [prepayment, statement] = listed.as_slice() else { panic!("{listed:?}") };
    let ubl = export(client, invoice(&prepayment.number), ExportFormat::Ubl).await.unwrap();
    let text = ubl.text();
    assert!(text.contains("<cbc:InvoiceTypeCode>386<"), "{text}");
    assert!(text.contains("<cbc:PayableAmount currencyID=\"USD\">0.00<"), "{text}");

    let by_id = invoice(&statement.document_id);
    let refused = export(client, by_id.clone(), ExportFormat::Cii).await.err().unwrap();
    let expected = (Code::FailedPrecondition, "NOT_A_TAX_DOCUMENT".into(), "format".into());
    assert_eq!(refusal(&refused), expected);
    let pdf = export(client, by_id, ExportFormat::Pdf).await.unwrap();
    assert_eq!(pdf.file_name, format!("usage-umbrella-{}.pdf", name(month(1))));
}

#[tokio::test]
async fn a_month_comes_as_one_archive_with_its_register() {
    let (world, ..) = a_month().await;
    let client = &world.client;
    let month = name(month(1));
    let packed = export(client, period(&month), ExportFormat::Csv).await.unwrap();
    assert_eq!(packed.file_name, format!("documents-{month}-csv.zip"));
    let again = export(client, period(&month), ExportFormat::Csv).await.unwrap();
    assert!(packed.bytes == again.bytes, "the archive differs");
    let number = documents(client, "acme").await[0].number.clone();
    let mut archive = zip::ZipArchive::new(Cursor::new(packed.bytes)).unwrap();
    let names = archive.file_names();
    let mut names: Vec<String> = names.map(|name| name.unwrap().into_owned()).collect();
    names.sort();
    let statement = format!("usage-umbrella-{month}.csv");
    assert_eq!(names, [format!("{number}.csv"), "register.csv".to_owned(), statement]);
    let mut register = String::new();
    archive.by_name("register.csv").unwrap().read_to_string(&mut register).unwrap();
    assert!(register.contains(&number), "{register}");

    let ubl = export(client, period(&month), ExportFormat::Ubl).await.unwrap();
    let mut archive = zip::ZipArchive::new(Cursor::new(ubl.bytes)).unwrap();
    let mut left_out = String::new();
    archive.by_name("not-exported.csv").unwrap().read_to_string(&mut left_out).unwrap();
    assert!(left_out.contains("usage-umbrella"), "{left_out}");
}

#[tokio::test]
async fn a_years_register_lists_every_number() {
    let (world, ..) = a_month().await;
    let client = &world.client;
    let year = documents(client, "acme").await[0].issue_date[..4].to_owned();
    let register = export(client, period(&year), ExportFormat::Register).await.unwrap();
    assert_eq!(register.file_name, format!("register-{year}.csv"));
    let mut reader = csv::Reader::from_reader(register.bytes.as_slice());
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let numbers: Vec<&str> = rows.iter().map(|row| &row[0]).collect();
    assert_eq!(numbers, [format!("INV-{year}-000001"), format!("PRE-{year}-000001")]);
    assert!(rows[0][15].starts_with("S 19% of 12.85: "), "{:?}", rows[0]);

    let of = export_of(client, period(&year), "umbrella", ExportFormat::Register.into()).await;
    let text = of.unwrap().text();
    assert!(!text.contains("INV-") && text.contains("PRE-") && !text.contains("MISSING"), "{text}");
}

#[tokio::test]
async fn what_cannot_be_meant_is_told_by_its_field() {
    let world = world().await;
    let client = &world.client;
    let pdf = i32::from(ExportFormat::Pdf);
    let register = i32::from(ExportFormat::Register);
    for (what, account, format, expected) in [
        (None, "", pdf, (Code::InvalidArgument, "MISSING", "invoice")),
        (invoice(""), "", pdf, (Code::InvalidArgument, "MISSING", "invoice")),
        (invoice("INV-1"), "", 0, (Code::InvalidArgument, "UNKNOWN_FORMAT", "format")),
        (invoice("INV-1"), "", 99, (Code::InvalidArgument, "UNKNOWN_FORMAT", "format")),
        (invoice("INV-1"), "", register, (Code::InvalidArgument, "NOT_WITH_INVOICE", "format")),
        (invoice("INV-1"), "acme", pdf, (Code::InvalidArgument, "NOT_WITH_INVOICE", "account")),
        (invoice("INV-1"), "", pdf, (Code::NotFound, "DOCUMENT_NOT_FOUND", "invoice")),
        (period("2026"), "", pdf, (Code::InvalidArgument, "INVALID_PERIOD", "period")),
        (period("2026-13"), "", pdf, (Code::InvalidArgument, "INVALID_PERIOD", "period")),
        (period("１２"), "", register, (Code::InvalidArgument, "INVALID_PERIOD", "period")),
        (period("2026-10"), "nobody", pdf, (Code::NotFound, "ACCOUNT_NOT_FOUND", "account")),
    ] {
        let refused = export_of(client, what.clone(), account, format).await.err().unwrap();
        let (code, reason, field) = refusal(&refused);
        assert_eq!((code, reason.as_str(), field.as_str()), expected, "{what:?}");
    }
}

#[tokio::test]
async fn a_tenant_exports_its_own_documents_alone() {
    let (world, acme, _) = a_month().await;
    let client = &world.client;
    let own = documents(client, "acme").await[0].number.clone();
    let other = documents(client, "umbrella").await[0].number.clone();
    let account = AccountId(acme.account.parse().unwrap());
    let tenant = world.server.tenant(account).await;

    export(&tenant, invoice(&own), ExportFormat::Ubl).await.unwrap();
    let others = export(&tenant, invoice(&other), ExportFormat::Ubl).await.err().unwrap();
    let unknown = export(&tenant, invoice("PRE-1"), ExportFormat::Ubl).await.err().unwrap();
    assert_eq!(refusal(&others), refusal(&unknown));

    let month = name(month(1));
    let register = export(&tenant, period(&month), ExportFormat::Register).await.unwrap().text();
    assert!(register.contains(&own) && !register.contains("umbrella"), "{register}");
    let packed = export(&tenant, period(&month), ExportFormat::Csv).await.unwrap();
    let archive = zip::ZipArchive::new(Cursor::new(packed.bytes)).unwrap();
    assert_eq!(archive.len(), 2, "its invoice and its register");
    let pdf = ExportFormat::Pdf.into();
    let refused = export_of(&tenant, period(&month), "umbrella", pdf).await.err().unwrap();
    assert_eq!(refused.code(), Code::NotFound);
}

#[tokio::test]
async fn the_command_line_writes_files_and_replaces_none_unasked() {
    let (world, ..) = a_month().await;
    let shell = Shell::of(&world.server);
    let directory = tempfile::tempdir().unwrap();
    let number = documents(&world.client, "acme").await[0].number.clone();
    let file = directory.path().join("invoice.pdf");
    let to = file.to_str().unwrap();
    let pdf = ["invoice", "export", &number, "--format", "pdf", "--to", to];
    assert_eq!(shell.run(&pdf).await.code, 0);
    let first = std::fs::read(&file).unwrap();
    assert!(first.starts_with(b"%PDF-1.7"));

    let again = shell.run(&pdf).await;
    assert!(again.code == 1 && again.err.contains("--force"), "{again:?}");
    std::fs::write(&file, "another").unwrap();
    let forced = shell.run(&[pdf.as_slice(), &["--force"]].concat()).await;
    assert_eq!(forced.code, 0, "{forced:?}");
    assert!(std::fs::read(&file).unwrap() == first);

    let piped = shell.bytes(&["invoice", "export", &number, "--format", "pdf", "--to", "-"]).await;
    assert!(piped == first, "a pipe gets what a file gets");
    let out = shell.run(&["invoice", "export", &number, "--format", "ubl", "--to", "-"]).await;
    assert!(out.out.starts_with("<?xml"), "{out:?}");
    let register = shell.run(&["invoice", "export", "--period", "2026-1", "--register"]).await;
    assert!(register.code == 64 && register.err.contains("period"), "{register:?}");
    let nothing = shell.run(&["invoice", "export"]).await;
    assert!(nothing.code == 64 && nothing.err.contains("--period"), "{nothing:?}");
    let left = std::fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(left, 1, "nothing but the file");
}
