//! The permission table: which role may call which RPC. It is the only place that says so.
//!
//! A test walks the contract's descriptors: an RPC that is missing here, or a line whose RPC is
//! gone, fails it. What is not in the table cannot be called.

use std::{collections::HashMap, sync::LazyLock};

use super::{
    Role::{self, Auditor, Finance, Gateway, Operator, Tenant},
    Roles,
};

const EVERYONE: &[Role] = &[Gateway, Operator, Finance, Auditor, Tenant];
/// Reads across all accounts.
const STAFF: &[Role] = &[Operator, Finance, Auditor];
/// Reads of one account. For a tenant the service checks that it is its own.
const STAFF_AND_OWNER: &[Role] = &[Operator, Finance, Auditor, Tenant];

/// One line per RPC of the contract.
pub const TABLE: &[(&str, &[Role])] = &[
    ("/tollgate.v1.AccountService/CreateAccount", &[Operator]),
    ("/tollgate.v1.AccountService/GetAccount", STAFF_AND_OWNER),
    ("/tollgate.v1.AccountService/ListAccounts", STAFF),
    ("/tollgate.v1.AccountService/UpdateAccount", &[Operator]),
    ("/tollgate.v1.AccountService/SuspendAccount", &[Operator]),
    ("/tollgate.v1.AccountService/ResumeAccount", &[Operator]),
    ("/tollgate.v1.AccountService/CloseAccount", &[Operator]),
    ("/tollgate.v1.AccountService/ExportPersonalData", &[Operator, Auditor]),
    ("/tollgate.v1.AccountService/ErasePersonalData", &[Operator]),
    ("/tollgate.v1.AuditService/ListAuditEntries", &[Finance, Auditor]),
    ("/tollgate.v1.AuthorizationService/Authorize", &[Gateway]),
    ("/tollgate.v1.AuthorizationService/AuthorizeStream", &[Gateway]),
    ("/tollgate.v1.AuthorizationService/ExtendAuthorization", &[Gateway]),
    ("/tollgate.v1.AuthorizationService/CancelAuthorization", &[Gateway]),
    ("/tollgate.v1.AuthorizationService/ListReservations", STAFF),
    ("/tollgate.v1.BillingService/ClosePeriod", &[Finance]),
    ("/tollgate.v1.BillingService/IssueFinalInvoice", &[Finance]),
    ("/tollgate.v1.BillingService/PreviewInvoice", STAFF_AND_OWNER),
    ("/tollgate.v1.BillingService/ListInvoices", STAFF_AND_OWNER),
    ("/tollgate.v1.BillingService/GetInvoice", STAFF_AND_OWNER),
    ("/tollgate.v1.BillingService/ExportInvoice", STAFF_AND_OWNER),
    ("/tollgate.v1.BillingService/RecordPayment", &[Finance]),
    ("/tollgate.v1.BillingService/AllocatePayment", &[Finance]),
    ("/tollgate.v1.BillingService/ReversePayment", &[Finance]),
    ("/tollgate.v1.BillingService/ListPayments", &[Finance, Auditor]),
    ("/tollgate.v1.BillingService/GetPayment", &[Finance, Auditor]),
    ("/tollgate.v1.BillingService/IssueCreditNote", &[Finance]),
    ("/tollgate.v1.BillingService/VoidInvoice", &[Finance]),
    ("/tollgate.v1.BillingService/WriteOff", &[Finance]),
    ("/tollgate.v1.BillingService/ListDunningEvents", &[Finance, Auditor]),
    ("/tollgate.v1.BillingService/GetAging", &[Finance, Auditor]),
    ("/tollgate.v1.BillingService/GetStatement", STAFF_AND_OWNER),
    ("/tollgate.v1.BillingService/GetDeferredRevenue", &[Finance, Auditor]),
    ("/tollgate.v1.BillingService/GetSlaReport", STAFF_AND_OWNER),
    ("/tollgate.v1.BillingService/GetRevenue", &[Finance, Auditor]),
    ("/tollgate.v1.BillingService/GetTaxSummary", &[Finance, Auditor]),
    ("/tollgate.v1.BudgetService/DeleteBudget", &[Operator]),
    ("/tollgate.v1.BudgetService/ListBudgets", STAFF_AND_OWNER),
    ("/tollgate.v1.BudgetService/SetBudget", &[Operator]),
    ("/tollgate.v1.CatalogService/PublishPrices", &[Operator]),
    ("/tollgate.v1.CatalogService/ListModels", EVERYONE),
    ("/tollgate.v1.CatalogService/GetModel", EVERYONE),
    ("/tollgate.v1.CatalogService/EstimateCost", EVERYONE),
    ("/tollgate.v1.CreditService/TopUp", &[Operator, Finance]),
    ("/tollgate.v1.CreditService/GrantCredit", &[Operator]),
    ("/tollgate.v1.CreditService/WithdrawGrant", &[Operator]),
    ("/tollgate.v1.CreditService/Refund", &[Operator, Finance]),
    ("/tollgate.v1.CreditService/RecordChargeback", &[Operator, Finance]),
    ("/tollgate.v1.CreditService/GetBalance", STAFF_AND_OWNER),
    ("/tollgate.v1.InstallationService/CheckInstallation", &[Operator, Auditor]),
    ("/tollgate.v1.KeyService/IssueKey", &[Operator, Tenant]),
    ("/tollgate.v1.KeyService/ListKeys", &[Operator, Auditor, Tenant]),
    ("/tollgate.v1.KeyService/UpdateKey", &[Operator, Tenant]),
    ("/tollgate.v1.KeyService/RotateKey", &[Operator, Tenant]),
    ("/tollgate.v1.KeyService/RevokeKey", &[Operator, Tenant]),
    ("/tollgate.v1.KeyService/RevokeLeakedKeys", &[Operator]),
    ("/tollgate.v1.LedgerService/ListTransfers", &[Finance, Auditor]),
    ("/tollgate.v1.LedgerService/GetTrialBalance", &[Finance, Auditor]),
    ("/tollgate.v1.LedgerService/ExportJournal", &[Finance, Auditor]),
    ("/tollgate.v1.LedgerService/VerifyLedger", &[Finance, Auditor]),
    ("/tollgate.v1.LedgerService/ExportChainHeads", &[Finance, Auditor]),
    ("/tollgate.v1.LedgerService/CheckChainHeads", &[Finance, Auditor]),
    ("/tollgate.v1.SellerService/SetSeller", &[Finance]),
    ("/tollgate.v1.SellerService/GetSeller", STAFF),
    ("/tollgate.v1.SellerService/SetTaxRate", &[Finance]),
    ("/tollgate.v1.SellerService/ListTaxRates", STAFF),
    ("/tollgate.v1.TokenService/RevokeToken", &[Operator]),
    ("/tollgate.v1.TokenService/ListRevokedTokens", &[Operator, Auditor]),
    ("/tollgate.v1.UsageService/RecordUsage", &[Gateway]),
    ("/tollgate.v1.UsageService/RecordUsageBatch", &[Gateway]),
    ("/tollgate.v1.UsageService/RecordUsageStream", &[Gateway]),
    ("/tollgate.v1.UsageService/ReverseUsage", &[Operator, Finance]),
    ("/tollgate.v1.UsageService/ListUsage", STAFF_AND_OWNER),
    ("/tollgate.v1.UsageService/SummarizeUsage", STAFF_AND_OWNER),
    ("/tollgate.v1.UsageService/ListUnsettled", STAFF),
];

/// Services that are open without a token where the configuration says so: they tell what the
/// server is and whether it serves, never what it keeps.
pub const OPEN_SERVICES: [&str; 3] = [
    "/grpc.health.v1.Health/",
    "/grpc.reflection.v1.ServerReflection/",
    "/grpc.reflection.v1alpha.ServerReflection/",
];

/// An RPC of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permission {
    /// The path, such as `/tollgate.v1.UsageService/RecordUsage`.
    pub rpc: &'static str,
    /// Who may call it.
    pub roles: Roles,
    /// Whether it is in the audit trail: see [`is_audited`].
    pub audited: bool,
}

/// How the names of RPCs begin that change nothing (the standard methods of the API guidelines,
/// <https://google.aip.dev/130>, and our reports).
const READS: [&str; 8] =
    ["Check", "Get", "List", "Preview", "Summarize", "Export", "Estimate", "Verify"];
/// What the gateway does for each request. The books and the usage events are its record.
const METERING: [&str; 7] = [
    "/tollgate.v1.AuthorizationService/Authorize",
    "/tollgate.v1.AuthorizationService/AuthorizeStream",
    "/tollgate.v1.AuthorizationService/ExtendAuthorization",
    "/tollgate.v1.AuthorizationService/CancelAuthorization",
    "/tollgate.v1.UsageService/RecordUsage",
    "/tollgate.v1.UsageService/RecordUsageBatch",
    "/tollgate.v1.UsageService/RecordUsageStream",
];

/// Whether an RPC of the contract is a change by a person or a tool, each of which the audit trail
/// has: every one that is neither a read by its name nor metering, so that a new one is not forgotten.
#[must_use]
pub fn is_audited(rpc: &str) -> bool {
    let method = rpc.rsplit('/').next().unwrap_or_default();
    !METERING.contains(&rpc) && !READS.iter().any(|read| method.starts_with(read))
}

/// The table's line for a path.
#[must_use]
pub fn permission_for(path: &str) -> Option<Permission> {
    static BY_PATH: LazyLock<HashMap<&str, Permission>> = LazyLock::new(|| {
        TABLE
            .iter()
            .map(|(rpc, roles)| {
                let audited = is_audited(rpc);
                (*rpc, Permission { rpc, roles: Roles::of(roles), audited })
            })
            .collect()
    });
    BY_PATH.get(path).copied()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;

    fn contract() -> BTreeSet<String> {
        let descriptors = FileDescriptorSet::decode(crate::proto::FILE_DESCRIPTOR_SET).unwrap();
        let mut paths = BTreeSet::new();
        for file in &descriptors.file {
            for service in &file.service {
                for method in &service.method {
                    paths.insert(format!(
                        "/{}.{}/{}",
                        file.package(),
                        service.name(),
                        method.name()
                    ));
                }
            }
        }
        paths
    }

    #[test]
    fn every_rpc_of_the_contract_has_one_line_and_no_line_is_stale() {
        let lines: BTreeSet<String> = TABLE.iter().map(|(rpc, _)| (*rpc).to_owned()).collect();
        assert_eq!(lines.len(), TABLE.len(), "an RPC has two lines");
        assert_eq!(lines, contract());
    }

    #[test]
    fn every_rpc_can_be_called_by_somebody() {
        for (rpc, roles) in TABLE {
            assert!(!Roles::of(roles).is_empty(), "nobody may call {rpc}");
        }
    }

    #[test]
    fn an_auditor_and_a_tenant_change_neither_money_nor_prices() {
        let changes = [
            "TopUp",
            "Grant",
            "Withdraw",
            "Refund",
            "Record",
            "Publish",
            "Create",
            "Close",
            "Cancel",
            "Reverse",
            "SetBudget",
            "DeleteBudget",
            "SetSeller",
            "SetTaxRate",
            "Suspend",
            "Resume",
            "UpdateAccount",
            "Extend",
            "Authorize",
            "RevokeToken",
            "Erase",
        ];
        for (rpc, roles) in TABLE {
            let method = rpc.rsplit('/').next().unwrap();
            if changes.iter().any(|change| method.starts_with(change)) {
                let roles = Roles::of(roles);
                assert!(!roles.has(Auditor) && !roles.has(Tenant), "{rpc} is open to {roles}");
            }
        }
    }

    #[test]
    fn whatever_an_auditor_may_call_is_a_read_and_the_gateways_own_calls_are_not_audited() {
        for (rpc, roles) in TABLE {
            let roles = Roles::of(roles);
            assert!(!(roles.has(Auditor) && is_audited(rpc)), "{rpc} is taken for a change");
            assert!(!(roles == Roles::of(&[Gateway]) && is_audited(rpc)), "{rpc} is audited");
        }
        for rpc in METERING {
            assert!(permission_for(rpc).is_some(), "{rpc} is gone");
        }
    }

    #[test]
    fn what_is_not_in_the_table_has_no_permission() {
        assert_eq!(permission_for("/tollgate.v1.UsageService/DropEverything"), None);
        assert_eq!(permission_for("/tollgate.v1.UsageService/RecordUsage/"), None);
        assert_eq!(permission_for(""), None);
    }
}
