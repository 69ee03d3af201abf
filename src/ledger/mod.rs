//! The books: chart of accounts, transfers, balances and their proof.
