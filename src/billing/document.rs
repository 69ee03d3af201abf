//! A billing document: an invoice, a credit note, a receipt, as plain facts.
//!
//! It holds all that any export shows, so that an export needs nothing else and a document that was
//! issued looks the same for ever, whatever has since become of prices, customers and ourselves.
//! Amounts of money are rounded to the currency's minor unit, once per line and once per tax
//! category; a document's sums are sums of what it shows. Fields that EN 16931-1:2017 has bear its
//! number (BT, BG) in their comment.

use chrono::NaiveDate;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::{
    accounts::contract::Address,
    ids::{AccountId, ModelId, PriceVersionId},
    metering::quantities::TokenClass,
    money::{Amount, Currency},
};

/// What kind of document it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DocumentKind {
    /// Asks for a month's usage (BT-3: 380).
    Invoice,
    /// For credits that were paid in advance, where their tax falls due on payment (386).
    PrepaymentInvoice,
    /// Takes back an invoice, in whole or in part; its amounts are positive (381).
    CreditNote,
    /// Says that credits were paid for, where no tax falls due on payment. No tax document.
    Receipt,
    /// A prepaid customer's month: what was used and what paid for it. No tax document.
    UsageStatement,
}

/// Everything that a document says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// What it is (BT-3).
    pub kind: DocumentKind,
    /// Consecutive within its series and year (BT-1); `None` for a draft, a preview and a statement.
    pub number: Option<String>,
    /// Whose it is.
    pub account_id: AccountId,
    /// The account's handle.
    pub account_handle: String,
    /// The currency of every amount (BT-5).
    pub currency: Currency,
    /// The day it was issued, in UTC (BT-2).
    pub issue_date: NaiveDate,
    /// When it is to be paid (BT-9); `None` where nothing is asked for.
    pub due_date: Option<NaiveDate>,
    /// The days it is about (BG-14).
    pub service_period: Option<Days>,
    /// We (BG-4).
    pub seller: Party,
    /// The customer (BG-7).
    pub buyer: Party,
    /// The customer's order number (BT-13).
    pub purchase_order: String,
    /// What the customer routes the document by (BT-10).
    pub buyer_reference: String,
    /// The customer's cost centre (BT-19).
    pub cost_centre: String,
    /// The documents that it corrects or settles (BG-3).
    pub preceding: Vec<Reference>,
    /// Why it was issued: of a credit note, what it corrects (BT-22).
    pub reason: String,
    /// What was supplied (BG-25).
    pub lines: Vec<Line>,
    /// What comes off the sum of the lines (BG-20). Amounts are positive.
    pub allowances: Vec<Allowance>,
    /// The tax by category and rate (BG-23).
    pub taxes: Vec<TaxSubtotal>,
    /// The sums (BG-22).
    pub totals: Totals,
    /// How to pay (BG-16); `None` where nothing is asked for.
    pub remittance: Option<Remittance>,
    /// What else has to be said, a paragraph each (BT-22).
    pub notes: Vec<String>,
}

impl Document {
    /// Whether it is a credit note whose money has gone back to the customer already.
    #[must_use]
    pub fn is_paid_back(&self) -> bool {
        let Totals { gross, paid, .. } = self.totals;
        self.kind == DocumentKind::CreditNote && paid == gross && gross.is_positive()
    }
}

/// The first and the last day of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Days {
    /// The first day (BT-73, BT-134).
    pub first: NaiveDate,
    /// The last day, which is part of the span (BT-74, BT-135).
    pub last: NaiveDate,
}

/// The seller or the buyer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Party {
    /// The registered name (BT-27, BT-44).
    pub legal_name: String,
    /// The name it does business under, where it is another (BT-28, BT-45).
    pub trading_name: String,
    /// Where it is (BG-5, BG-8).
    pub address: Address,
    /// Its number in a company register (BT-30, BT-47).
    pub registration_id: String,
    /// Its VAT id with the country's prefix (BT-31, BT-48); another tax number where the country has
    /// no VAT (BT-32).
    pub tax_id: String,
    /// Where electronic documents are delivered (BT-34, BT-49).
    pub electronic_address: Option<ElectronicAddress>,
    /// Where a person reads mail (BT-43, BT-58).
    pub email: String,
    /// The telephone number of who answers questions (BT-42, BT-57).
    pub telephone: String,
    /// Who answers questions (BT-41, BT-56).
    pub contact: String,
}

/// An address of a delivery network such as Peppol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElectronicAddress {
    /// The scheme, from the Electronic Address Scheme code list, such as `0088` or `EM`.
    pub scheme: String,
    /// The address within it.
    pub address: String,
}

/// Another document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// Its number (BT-25).
    pub number: String,
    /// When it was issued (BT-26).
    pub issue_date: NaiveDate,
}

/// What a line counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineClass {
    /// Prompt tokens that no cache served.
    Input,
    /// Tokens of the answer, without reasoning.
    Output,
    /// Prompt tokens read from the provider's cache.
    CacheRead,
    /// Prompt tokens written to the provider's cache.
    CacheWrite,
    /// Tokens of reasoning.
    Reasoning,
    /// Tokens of audio sent.
    AudioInput,
    /// Tokens of audio received.
    AudioOutput,
    /// Images.
    Image,
    /// Requests with a fee of their own.
    Request,
    /// Requests answered from the gateway's own cache.
    CachedResponse,
    /// Credits bought in advance; the quantity is one and the price their amount.
    Credits,
    /// Anything else, said in words; on credit notes that are not about lines.
    Other,
}

impl LineClass {
    /// Every class, in the order of an invoice.
    pub const ALL: [Self; 12] = [
        Self::Input,
        Self::Output,
        Self::CacheRead,
        Self::CacheWrite,
        Self::Reasoning,
        Self::AudioInput,
        Self::AudioOutput,
        Self::Image,
        Self::Request,
        Self::CachedResponse,
        Self::Credits,
        Self::Other,
    ];

    /// The class of tokens that it counts; `None` where it counts something else.
    #[must_use]
    pub const fn token_class(self) -> Option<TokenClass> {
        match self {
            Self::Input => Some(TokenClass::Input),
            Self::Output => Some(TokenClass::Output),
            Self::CacheRead => Some(TokenClass::CacheRead),
            Self::CacheWrite => Some(TokenClass::CacheWrite),
            Self::Reasoning => Some(TokenClass::Reasoning),
            Self::AudioInput => Some(TokenClass::AudioInput),
            Self::AudioOutput => Some(TokenClass::AudioOutput),
            Self::Image | Self::Request | Self::CachedResponse | Self::Credits | Self::Other => {
                None
            }
        }
    }

    /// How many units a price is for (BT-149): a million tokens, else one.
    #[must_use]
    pub const fn base_quantity(self) -> u64 {
        if self.token_class().is_some() { 1_000_000 } else { 1 }
    }

    /// What a clerk reads.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Input => "input tokens",
            Self::Output => "output tokens",
            Self::CacheRead => "cache read tokens",
            Self::CacheWrite => "cache write tokens",
            Self::Reasoning => "reasoning tokens",
            Self::AudioInput => "audio input tokens",
            Self::AudioOutput => "audio output tokens",
            Self::Image => "images",
            Self::Request => "requests",
            Self::CachedResponse => "cached responses",
            Self::Credits => "prepaid credits",
            Self::Other => "adjustment",
        }
    }
}

/// One line: one model, class, context tier, price version and span of service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// From 1, in the document's order (BT-126).
    pub position: u32,
    /// What was supplied, in words (BT-153), such as `Pro/DeepSeek-V4 – output tokens`.
    pub description: String,
    /// The model's name; empty where the line is about none.
    pub model: String,
    /// The model's number in the price book.
    pub model_id: Option<ModelId>,
    /// What is counted.
    pub class: LineClass,
    /// The context tier that priced it: above so many prompt tokens; 0 is the base price.
    pub tier_above: i64,
    /// The price's version in the price book.
    pub price_version: Option<PriceVersionId>,
    /// The days of the work (BG-26).
    pub service_days: Option<Days>,
    /// How many (BT-129), in units of one (BT-130: C62).
    #[serde(with = "rust_decimal::serde::str")]
    pub quantity: Decimal,
    /// The price of [`LineClass::base_quantity`] units, at most 6 decimals (BT-146).
    #[serde(with = "rust_decimal::serde::str")]
    pub price: Decimal,
    /// The price before the customer's discount (BT-148), where there is one.
    #[serde(with = "rust_decimal::serde::str_option")]
    pub list_price: Option<Decimal>,
    /// The customer's discount in percent, where there is one.
    #[serde(with = "rust_decimal::serde::str_option")]
    pub discount_percent: Option<Decimal>,
    /// quantity × price ÷ base quantity, rounded half up to the minor unit (BT-131).
    pub net: Amount,
    /// How it is taxed (BG-30).
    pub tax: TaxCategory,
}

/// Why something comes off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AllowanceKind {
    /// Paid by credits that were bought before.
    PrepaidCredits,
    /// Paid by credits that were given.
    PromotionalCredits,
    /// For availability that was missed.
    ServiceLevelCredit,
}

/// What comes off the sum of the lines (BG-20).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowance {
    /// What it is.
    pub kind: AllowanceKind,
    /// Why, in words (BT-97); names the prepayment invoices where there are some.
    pub reason: String,
    /// How much, above zero (BT-92).
    pub amount: Amount,
    /// How it is taxed (BT-95, BT-96).
    pub tax: TaxCategory,
}

/// How something is taxed: the category of UNCL 5305 that EN 16931 allows, and its rate.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "category", rename_all = "snake_case")]
pub enum TaxCategory {
    /// `S`, at a rate above zero.
    Standard {
        /// In percent, at most 4 decimals.
        #[serde(with = "rust_decimal::serde::str")]
        rate_percent: Decimal,
    },
    /// `Z`, taxed at zero.
    ZeroRated,
    /// `E`, exempt.
    Exempt,
    /// `AE`, the customer accounts for it.
    ReverseCharge,
    /// `O`, outside the scope of VAT: a seller or a customer outside of it.
    OutsideScope,
}

/// The tax of one category and rate (BG-23).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaxSubtotal {
    /// How it is taxed (BT-118, BT-119).
    pub tax: TaxCategory,
    /// What is taxed: lines less allowances of the category (BT-116).
    pub taxable: Amount,
    /// taxable × rate, rounded half up to the minor unit (BT-117).
    pub amount: Amount,
    /// Why no tax is charged (BT-120), such as the sentence for reverse charge.
    pub exemption_reason: String,
    /// The reason's code (BT-121), such as `VATEX-EU-AE`; may be empty.
    pub exemption_code: String,
}

/// The sums (BG-22).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// The sum of the lines (BT-106).
    pub lines: Amount,
    /// The sum of the allowances (BT-107).
    pub allowances: Amount,
    /// lines − allowances (BT-109).
    pub net: Amount,
    /// The sum of the tax (BT-110).
    pub tax: Amount,
    /// net + tax (BT-112).
    pub gross: Amount,
    /// Cash received before it was issued (BT-113).
    pub paid: Amount,
    /// gross − paid (BT-115).
    pub due: Amount,
}

/// How to pay.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Remittance {
    /// The terms in words (BT-20), such as `Net 30 days`.
    pub terms: String,
    /// Whose account it is (BT-85).
    pub account_name: String,
    /// IBAN or account number (BT-84).
    pub account_number: String,
    /// BIC, or the routing number of the bank (BT-86).
    pub bank_code: String,
    /// The bank's name.
    pub bank_name: String,
    /// What the customer writes on the payment (BT-83).
    pub payment_reference: String,
}
