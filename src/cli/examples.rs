//! What the help of a noun shows: its verbs as they are used most. Each verb's own help has more.

pub(super) const ACCOUNT: &str = "\
Examples:
  tollgate account create acme --name 'Acme Inc.'
  tollgate account update acme --credit-limit 10000 --payment-terms net-30
  tollgate account list --status suspended";

pub(super) const KEY: &str = "\
Examples:
  tollgate key issue acme --name production
  tollgate key list acme
  tollgate key revoke 0196f1c2-… --reason 'leaked in a log'";

pub(super) const CREDIT: &str = "\
Examples:
  tollgate credit top-up acme 50 --method visa --reference ch_3Qx81
  tollgate credit grant acme 5 --reason 'welcome'
  tollgate credit refund acme 20 --method visa --reference re_3Qx81 --reason 'customer asked'";

pub(super) const BUDGET: &str = "\
Examples:
  tollgate budget set acme 500 --per month
  tollgate budget set acme 5 --per day --key 0196f1c2-…
  tollgate budget list acme";

pub(super) const MODEL: &str = "\
Examples:
  tollgate model import --shipped
  tollgate model list deepseek
  tollgate model compare --tokens 5M deepseek-ai/DeepSeek-V4-Flash gpt-4o";

pub(super) const USAGE: &str = "\
Examples:
  tollgate usage summary --account acme --from 30d
  tollgate usage list acme --from 24h --model gpt-4o
  tollgate usage unsettled";

pub(super) const AUTHORIZATION: &str = "\
Examples:
  tollgate authorization authorize --key ga_sk_… --model gpt-4o --input 1200 --max-output 400
  tollgate authorization reservations --account acme";

pub(super) const INVOICE: &str = "\
Examples:
  tollgate invoice close --period 2026-10
  tollgate invoice list acme
  tollgate invoice show INV-2026-000001";

pub(super) const PAYMENT: &str = "\
Examples:
  tollgate payment record acme 1190 --method wire --reference 'E2E 7' --invoice INV-2026-000001
  tollgate payment list acme --unapplied
  tollgate payment allocate CN-2026-000001 --oldest-first";

pub(super) const CREDIT_NOTE: &str = "\
Examples:
  tollgate credit-note issue INV-2026-000001 --reason 'not as agreed'
  tollgate credit-note issue INV-2026-000001 --net 25 --reason 'goodwill'";

pub(super) const REPORT: &str = "\
Examples:
  tollgate report revenue --period 2026-10
  tollgate report deferred-revenue --period 2026-10
  tollgate report sla acme --period 2026-10
  tollgate report aging";

pub(super) const SELLER: &str = "\
Examples:
  tollgate seller set --legal-name 'Gateway GmbH' --line-1 'Weg 1' --city Berlin --country DE
  tollgate seller show
  tollgate seller tax-rate set DE 19 --label VAT --from 2026-01-01 --due-on-payment";

pub(super) const LEDGER: &str = "\
Examples:
  tollgate ledger trial-balance
  tollgate ledger transfers acme --from 7d
  tollgate ledger verify";

pub(super) const TOKEN: &str = "\
Examples:
  tollgate token mint --role gateway --subject edge-1 --ttl 90d
  tollgate token revoke --id 019ad2f0-7c1e-7bb0-9a55-3f5b0c2d9e11 --reason 'found in a log'";

pub(super) const AUDIT: &str = "\
Examples:
  tollgate audit list --account acme --from 7d
  tollgate audit list --rpc UpdateAccount --output json";
