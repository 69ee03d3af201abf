//! The five roles.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::IdentityError;

/// What a caller is to Tollgate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The AI gateway: authorizes requests and records their usage.
    Gateway,
    /// Keeps accounts, keys, credits and prices.
    Operator,
    /// Billing, ledger, exports.
    Finance,
    /// Reads everything, changes nothing.
    Auditor,
    /// A customer: reads one account and keeps its keys.
    Tenant,
}

impl Role {
    /// All of them, in the order in which one is chosen for a caller who has several.
    pub const ALL: [Self; 5] =
        [Self::Gateway, Self::Operator, Self::Finance, Self::Auditor, Self::Tenant];

    /// The name that tokens and the command line use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Operator => "operator",
            Self::Finance => "finance",
            Self::Auditor => "auditor",
            Self::Tenant => "tenant",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|role| role.name() == text)
            .ok_or_else(|| IdentityError::UnknownRole(text.chars().take(40).collect()))
    }
}

/// A set of roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Roles(u8);

impl Roles {
    /// The set of exactly these.
    #[must_use]
    pub const fn of(roles: &[Role]) -> Self {
        let mut bits = 0;
        let mut rest = roles;
        while let [first, others @ ..] = rest {
            bits |= first.bit();
            rest = others;
        }
        Self(bits)
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `role` is among them.
    #[must_use]
    pub const fn has(self, role: Role) -> bool {
        self.0 & role.bit() != 0
    }

    /// The first role, in the order of [`Role::ALL`], that both sets have.
    #[must_use]
    pub fn first_in_common(self, other: Self) -> Option<Role> {
        self.iter().find(|role| other.has(*role))
    }

    /// The roles in the order of [`Role::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| self.has(*role))
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, role) in self.iter().enumerate() {
            if index > 0 {
                formatter.write_str(", ")?;
            }
            formatter.write_str(role.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_was_put_in_and_nothing_else() {
        let roles = Roles::of(&[Role::Auditor, Role::Gateway]);
        assert!(roles.has(Role::Gateway) && roles.has(Role::Auditor));
        assert!(!roles.has(Role::Operator) && !roles.has(Role::Tenant));
        assert_eq!(roles.to_string(), "gateway, auditor");
        assert_eq!(
            roles.first_in_common(Roles::of(&[Role::Tenant, Role::Auditor])),
            Some(Role::Auditor)
        );
        assert_eq!(roles.first_in_common(Roles::of(&[Role::Tenant])), None);
    }

    #[test]
    fn a_role_is_spelled_the_same_everywhere() {
        for role in Role::ALL {
            assert_eq!(role.name().parse::<Role>().unwrap(), role);
            assert_eq!(serde_json::to_value(role).unwrap(), role.name());
        }
        assert!(matches!("root".parse::<Role>(), Err(IdentityError::UnknownRole(_))));
    }
}
