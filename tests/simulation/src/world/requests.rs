//! What becomes of a request that was granted: reported, cancelled, extended, forgotten.

use std::sync::Arc;

use tollgate::{authorization::grant::GrantClaims, metering::quantities::Quantities};

use super::{Ask, Work, World};
use crate::queue::{MS, SECOND};

impl World {
    /// The request runs, and then one thing or another becomes of it.
    pub fn serve(&mut self, ask: &Ask, claims: Arc<GrantClaims>) {
        let lifetime = (claims.expires_at - self.database_time()).num_milliseconds().max(1) as u64;
        let grace = u64::from(claims.grace_ms);
        let soon = self.dice.between(5, self.clients.longest) * MS;
        match self.dice.below(40) {
            0 => self.faults.count("requests of which nothing was heard again"),
            1..4 => {
                self.faults.count("requests that were cancelled");
                self.errand(Work::Record { claims, used: None }, soon);
            }
            4 => {
                self.faults.count("requests that were cancelled and reported");
                let used = self.used(&claims);
                let both = self.dice.below(30) * MS;
                self.errand(Work::Record { claims: Arc::clone(&claims), used: None }, soon);
                self.errand(Work::Record { claims, used: Some(used) }, soon + both);
            }
            5..10 => {
                self.faults.count("requests that were extended");
                let wanted = ask.output + self.dice.between(1, 4_000);
                let reducible = self.dice.one_in(2);
                self.errand(Work::Extend { claims, wanted, reducible }, soon);
            }
            10..14 => {
                self.faults.count("requests that were reported twice");
                let used = Some(self.used(&claims));
                let later = self.dice.pick(&[0, 0, 5 * MS, 3 * SECOND]);
                self.errand(Work::Record { claims: Arc::clone(&claims), used }, soon);
                self.errand(Work::Record { claims, used }, soon + later);
            }
            14 => {
                self.faults.count("requests that were reported differently");
                for _ in 0..2 {
                    let used = Some(self.used(&claims));
                    self.errand(Work::Record { claims: Arc::clone(&claims), used }, soon);
                }
            }
            15..18 => {
                self.faults.count("requests that were reported within the grace");
                let used = Some(self.used(&claims));
                // Now and then at the very end of it.
                let end = self.dice.pick(&[grace, 60]).min(grace);
                let late = lifetime + grace - self.dice.below(end);
                self.errand(Work::Record { claims, used }, late * MS);
            }
            18 | 19 => {
                self.faults.count("requests that were reported too late");
                let used = Some(self.used(&claims));
                let late = lifetime + grace + self.dice.between(0, 20_000);
                self.errand(Work::Record { claims, used }, late * MS);
            }
            _ => {
                let used = Some(self.used(&claims));
                self.errand(Work::Record { claims, used }, soon);
            }
        }
    }

    /// After an extension: reported, with the newer token or the older.
    pub fn report(&mut self, claims: Arc<GrantClaims>) {
        let older = self.auditor.first_token(claims.authorization_id);
        let with = match older {
            Some(older) if self.dice.one_in(4) => older,
            _ => claims,
        };
        let used = Some(self.used(&with));
        let soon = self.dice.between(5, 3_000) * MS;
        self.errand(Work::Record { claims: with, used }, soon);
    }

    /// What the provider says was used: mostly within what was authorized.
    fn used(&mut self, claims: &GrantClaims) -> Quantities {
        let most = claims.input_tokens + claims.input_tokens / 10;
        let (mut prompt, mut answer) =
            (self.dice.between(0, most), self.dice.between(0, claims.max_output_tokens));
        if self.dice.one_in(3) {
            (prompt, answer) = (most, claims.max_output_tokens);
        }
        if self.dice.one_in(15) {
            self.faults.count("requests that used more than was authorized");
            answer += self.dice.between(1, 3_000);
        }
        let cached = self.dice.below(prompt + 1);
        let reasoning = self.dice.below(answer + 1);
        Quantities {
            input: prompt - cached,
            cache_read: cached,
            output: answer - reasoning,
            reasoning,
            ..Quantities::default()
        }
    }
}
