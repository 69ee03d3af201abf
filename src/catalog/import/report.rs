//! What became of everything in a price file, for a person to read.

use std::fmt;

/// Something worth knowing about one place in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// A path or a line in the file, or a section of it.
    pub place: String,
    /// What happened there and why.
    pub text: String,
}

/// The account of an import.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Models named in the file.
    pub models: usize,
    /// Prices to import, withdrawals included.
    pub prices: usize,
    /// Of them, those that end a model's sale.
    pub withdrawn: usize,
    /// Models with a price of zero throughout: explicit, and worth a look.
    pub free: Vec<String>,
    /// Models that their provider has deprecated.
    pub deprecated: Vec<String>,
    /// Models that their provider has removed.
    pub removed: Vec<String>,
    /// What was left out, and why.
    pub skipped: Vec<Note>,
    /// What was changed, and how.
    pub changed: Vec<Note>,
    /// What the file says beyond prices, and what became of it.
    pub remarks: Vec<Note>,
}

impl Report {
    pub(super) fn skip(&mut self, place: impl Into<String>, text: impl Into<String>) {
        self.skipped.push(Note { place: place.into(), text: text.into() });
    }

    pub(super) fn remark(&mut self, place: impl Into<String>, text: impl Into<String>) {
        self.remarks.push(Note { place: place.into(), text: text.into() });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { models, prices, withdrawn, .. } = self;
        writeln!(formatter, "{models} models, {prices} prices ({withdrawn} withdrawals)")?;
        let names = [
            ("free of charge", &self.free),
            ("deprecated by the provider", &self.deprecated),
            ("removed by the provider", &self.removed),
        ];
        for (what, models) in names.into_iter().filter(|(_, models)| !models.is_empty()) {
            writeln!(formatter, "{what}: {} ({})", models.len(), models.join(", "))?;
        }
        let notes =
            [("skipped", &self.skipped), ("changed", &self.changed), ("note", &self.remarks)];
        for (what, notes) in notes {
            for note in notes {
                writeln!(formatter, "{what}: {}: {}", note.place, note.text)?;
            }
        }
        Ok(())
    }
}
