//! What the enterprise's month will be invoiced as.

use super::{Stage, world::World};
use crate::{
    cli::{
        args::{new_idempotency_key, required},
        client::Client,
        error::CliError,
        invoice::details,
    },
    proto::{
        Address, GetSellerRequest, ListInvoicesRequest, PreviewInvoiceRequest, RemittanceDetails,
        Seller, SetSellerRequest,
    },
};

/// Somebody has to issue documents: an example company, unless the server knows its own.
pub(super) async fn seller(client: &Client) -> Result<(), CliError> {
    let known = client.seller().get_seller(GetSellerRequest {}).await;
    match known {
        Ok(_) => return Ok(()),
        Err(status) if status.code() == tonic::Code::NotFound => {}
        Err(status) => return Err(status.into()),
    }
    let seller = Seller {
        legal_name: "Example Gateway Ltd".to_owned(),
        address: Some(Address {
            line_1: "1 Quay Street".to_owned(),
            city: "Dublin".to_owned(),
            postal_code: "D01 X2Y3".to_owned(),
            country_code: "IE".to_owned(),
            ..Address::default()
        }),
        tax_id: "IE1234567T".to_owned(),
        email: "billing@gateway.example".to_owned(),
        remittance: Some(RemittanceDetails {
            account_name: "Example Gateway Ltd".to_owned(),
            account_number: "IE12BOFI90000112345678".to_owned(),
            bank_code: "BOFIIE2D".to_owned(),
            ..RemittanceDetails::default()
        }),
        ..Seller::default()
    };
    let idempotency_key = new_idempotency_key();
    client.seller().set_seller(SetSellerRequest { seller: Some(seller), idempotency_key }).await?;
    Ok(())
}

/// The preview, and the receipt of the startup's payment.
pub(super) async fn run(client: &Client, world: &World, stage: &mut Stage) -> Result<(), CliError> {
    stage.chapter(
        "The invoice",
        "A month is invoiced when it is over; until then a preview says what it comes to. A payment \
         in\nadvance has its receipt at once.",
    )?;
    let mut billing = client.billing();
    let request =
        PreviewInvoiceRequest { account: world.enterprise.clone(), period: String::new() };
    let preview = billing.preview_invoice(request).await?.into_inner().invoice;
    for table in details(required(preview, "invoice")?)? {
        stage.show(table)?;
    }
    let request =
        ListInvoicesRequest { account: world.startup.clone(), ..ListInvoicesRequest::default() };
    let receipts = billing.list_invoices(request).await?.into_inner().invoices;
    let [receipt] = receipts.as_slice() else {
        return Err(CliError::failed("the startup's payment should have one receipt"));
    };
    stage.say(&format!("\n{} is the receipt of the startup's payment.", receipt.number))
}
