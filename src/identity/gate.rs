//! The door: from a path and a token to who is calling, or why not.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use arc_swap::ArcSwap;
use papaya::HashMap;

use super::{
    IdentityError, Role, Roles,
    keyring::KeyRing,
    permissions::{OPEN_SERVICES, Permission, permission_for},
    revoked::RevokedTokens,
    token::VerifiedToken,
};
use crate::{clock, ids::AccountId};

/// Verified tokens that are remembered, so that the hot path does not verify on every call. A
/// server has a handful of gateways and operators; tenants come and go.
const REMEMBERED_TOKENS: usize = 10_000;

/// Who is calling, once the permission table has allowed the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Whom the token was made for.
    pub subject: Arc<str>,
    /// The role by which this call is allowed.
    pub role: Role,
    /// The account of a tenant; `None` for all others.
    pub account: Option<AccountId>,
}

/// The outcome for a call that may go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// The service is open; nobody was identified.
    Open,
    /// The caller is known and may make this call.
    Granted(Caller),
}

/// Lets callers in.
#[derive(Debug)]
pub struct Gate {
    keys: ArcSwap<KeyRing>,
    /// How often the keys were replaced.
    generation: AtomicU64,
    revoked: Arc<RevokedTokens>,
    open: Vec<&'static str>,
    /// By the whole token, and only ever good ones: an attacker cannot fill it.
    verified: HashMap<Box<str>, Arc<Remembered>>,
}

/// A token that was found good.
#[derive(Debug)]
struct Remembered {
    token: Arc<VerifiedToken>,
    /// Of the keys that it was verified with.
    generation: u64,
}

impl Gate {
    /// A gate that believes tokens signed with `keys` and not `revoked`. Of [`OPEN_SERVICES`],
    /// those for which `is_open` holds need no token; the others need one of any role.
    #[must_use]
    pub fn new(keys: KeyRing, revoked: Arc<RevokedTokens>, is_open: impl Fn(&str) -> bool) -> Self {
        let open = OPEN_SERVICES.into_iter().filter(|service| is_open(service)).collect();
        Self {
            keys: ArcSwap::from_pointee(keys),
            generation: AtomicU64::new(0),
            revoked,
            open,
            verified: HashMap::new(),
        }
    }

    /// Believes `keys` from now on, and no token any more that was verified with others.
    pub fn replace_keys(&self, keys: KeyRing) {
        self.keys.store(Arc::new(keys));
        // After the keys: a token is never marked with a newer generation than it was verified in.
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Decides about one call. `authorization` is the header of that name.
    pub fn admit(&self, path: &str, authorization: Option<&str>) -> Result<Access, IdentityError> {
        let permission = permission_for(path);
        if permission.is_none() && self.open.iter().any(|service| path.starts_with(service)) {
            return Ok(Access::Open);
        }
        let remembered = self.verified(bearer(authorization)?)?;
        let token = &remembered.token;
        if token.fingerprint.is_some_and(|one| self.revoked.contains(one)) {
            return Err(IdentityError::Revoked);
        }
        let role = match permission {
            Some(permission) => allowed_role(permission, token.roles)?,
            None => any_role(path, token.roles)?,
        };
        Ok(Access::Granted(Caller {
            subject: Arc::clone(&token.subject),
            role,
            account: token.account,
        }))
    }

    /// Whose token this is, for what is written of a call besides: whether or not it was let in, but
    /// only of a token that is believed.
    #[must_use]
    pub fn whose(&self, authorization: Option<&str>) -> Option<Arc<VerifiedToken>> {
        let remembered = self.verified(bearer(authorization).ok()?).ok()?;
        Some(Arc::clone(&remembered.token))
    }

    fn verified(&self, token: &str) -> Result<Arc<Remembered>, IdentityError> {
        let generation = self.generation.load(Ordering::Acquire);
        let remembered = self.verified.pin();
        if let Some(known) = remembered.get(token).filter(|known| known.generation == generation) {
            if known.token.is_expired(clock::now()) {
                remembered.remove(token);
                return Err(IdentityError::Expired);
            }
            return Ok(Arc::clone(known));
        }
        let verified = self.keys.load().verify(token)?;
        let fresh = Arc::new(Remembered { token: Arc::new(verified), generation });
        if remembered.len() >= REMEMBERED_TOKENS {
            remembered.clear();
        }
        remembered.insert(token.into(), Arc::clone(&fresh));
        Ok(fresh)
    }
}

/// The token in `Bearer <token>`; the scheme's case does not matter (RFC 9110, section 11.1).
fn bearer(authorization: Option<&str>) -> Result<&str, IdentityError> {
    let header = authorization.ok_or(IdentityError::NoToken)?;
    let (scheme, token) = header.split_once(' ').ok_or(IdentityError::NotBearer)?;
    let token = token.trim();
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() || token.contains([' ', ',']) {
        return Err(IdentityError::NotBearer);
    }
    Ok(token)
}

fn allowed_role(permission: Permission, roles: Roles) -> Result<Role, IdentityError> {
    roles.first_in_common(permission.roles).ok_or_else(|| IdentityError::NotAllowed {
        rpc: permission.rpc.to_owned(),
        needed: permission.roles,
        has: roles,
    })
}

/// A service that is not open serves every caller; anything else does not exist.
fn any_role(path: &str, roles: Roles) -> Result<Role, IdentityError> {
    if !OPEN_SERVICES.iter().any(|service| path.starts_with(service)) {
        return Err(IdentityError::UnknownRpc(path.chars().take(200).collect()));
    }
    roles.iter().next().ok_or(IdentityError::Malformed("it names no role"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::identity::{
        keyring::TrustedKey,
        secret::Secret,
        token::{Fingerprint, TokenAuthority, TokenRequest},
    };

    const RECORD: &str = "/tollgate.v1.UsageService/RecordUsage";
    const HEALTH: &str = "/grpc.health.v1.Health/Check";

    fn secret(letter: &str) -> Secret {
        Secret::new(&letter.repeat(32), "the test").unwrap()
    }

    fn authority() -> TokenAuthority {
        TokenAuthority::new(&secret("s"))
    }

    fn ring(letters: &[&str]) -> KeyRing {
        KeyRing::new(letters.iter().map(|one| TrustedKey::of_secret(&secret(one))).collect())
    }

    fn header(roles: &[Role], account: Option<AccountId>) -> String {
        let request = TokenRequest {
            subject: "someone".to_owned(),
            roles: roles.to_vec(),
            account,
            lifetime: Duration::from_mins(1),
        };
        format!("Bearer {}", authority().mint(&request).unwrap())
    }

    fn gate(is_open: impl Fn(&str) -> bool) -> Gate {
        Gate::new(ring(&["s"]), Arc::default(), is_open)
    }

    fn closed() -> Gate {
        gate(|_| false)
    }

    #[test]
    fn a_caller_is_let_in_by_the_role_that_the_table_names() {
        let header = header(&[Role::Operator, Role::Gateway], None);
        let gate = closed();
        for (path, role) in
            [(RECORD, Role::Gateway), ("/tollgate.v1.KeyService/IssueKey", Role::Operator)]
        {
            // Twice: verified, then remembered.
            for _ in 0..2 {
                let Ok(Access::Granted(caller)) = gate.admit(path, Some(&header)) else {
                    panic!("{path} was refused");
                };
                assert_eq!((caller.role, &*caller.subject), (role, "someone"));
            }
        }
        assert_eq!(gate.verified.len(), 1);
    }

    #[test]
    fn a_known_caller_without_the_role_is_told_which_it_takes() {
        let error = closed().admit(RECORD, Some(&header(&[Role::Auditor], None))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "/tollgate.v1.UsageService/RecordUsage is for gateway; the token's role is auditor"
        );
    }

    #[test]
    fn a_refused_token_is_not_remembered() {
        let gate = closed();
        assert!(gate.admit(RECORD, Some("Bearer nonsense")).is_err());
        assert_eq!(gate.verified.len(), 0);
    }

    #[test]
    fn a_remembered_token_still_expires() {
        let gate = closed();
        let token = header(&[Role::Gateway], None).split_off("Bearer ".len());
        let mut old = ring(&["s"]).verify(&token).unwrap();
        old.expires_at = clock::now() - chrono::Duration::seconds(10);
        let old = Arc::new(Remembered { token: Arc::new(old), generation: 0 });
        gate.verified.pin().insert(token.clone().into(), old);
        let outcome = gate.admit(RECORD, Some(&format!("Bearer {token}")));
        assert_eq!(outcome, Err(IdentityError::Expired));
    }

    #[test]
    fn a_remembered_token_is_refused_from_the_moment_it_is_revoked() {
        let gate = closed();
        let header = header(&[Role::Gateway], None);
        assert!(gate.admit(RECORD, Some(&header)).is_ok());
        let token = header.strip_prefix("Bearer ").unwrap();
        let fingerprint = ring(&["s"]).verify(token).unwrap().fingerprint.unwrap();
        gate.revoked.add(Fingerprint::of("another"));
        assert!(gate.admit(RECORD, Some(&header)).is_ok());
        gate.revoked.add(fingerprint);
        assert_eq!(gate.admit(RECORD, Some(&header)), Err(IdentityError::Revoked));
    }

    #[test]
    fn a_remembered_token_is_good_for_as_long_as_its_key_is() {
        let gate = closed();
        let header = header(&[Role::Gateway], None);
        assert!(gate.admit(RECORD, Some(&header)).is_ok());
        gate.replace_keys(ring(&["n", "s"]));
        assert!(gate.admit(RECORD, Some(&header)).is_ok(), "its key is the previous one now");
        gate.replace_keys(ring(&["n"]));
        assert_eq!(gate.admit(RECORD, Some(&header)), Err(IdentityError::WrongSignature));
        assert_eq!(gate.verified.len(), 1, "the same token is remembered once");
    }

    #[test]
    fn an_open_service_needs_no_token_and_a_closed_one_any() {
        let open = gate(|service| service.contains("health"));
        assert_eq!(open.admit(HEALTH, None), Ok(Access::Open));
        let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
        assert_eq!(open.admit(reflection, None), Err(IdentityError::NoToken));
        assert_eq!(closed().admit(HEALTH, None), Err(IdentityError::NoToken));
        assert!(closed().admit(HEALTH, Some(&header(&[Role::Gateway], None))).is_ok());
    }

    #[test]
    fn an_unknown_rpc_is_refused_after_the_token_is_checked() {
        let path = "/tollgate.v1.UsageService/DropEverything";
        assert_eq!(closed().admit(path, None), Err(IdentityError::NoToken));
        let everyone = [Role::Gateway, Role::Operator, Role::Finance, Role::Auditor];
        let outcome = closed().admit(path, Some(&header(&everyone, None)));
        assert_eq!(outcome, Err(IdentityError::UnknownRpc(path.to_owned())));
    }

    #[test]
    fn only_bearer_and_one_token_is_a_header() {
        for header in ["", "Bearer", "Bearer ", "Basic YTpi", "Bearer a b", "Bearer a, Bearer b"] {
            assert_eq!(closed().admit(RECORD, Some(header)), Err(IdentityError::NotBearer));
        }
    }
}
