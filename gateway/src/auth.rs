//! Who is calling: a [`Caller`] is made from a key in one place (`http/auth.rs`) and is the only source of a scope.

use habit_memory::Scope;

/// The authenticated caller, inserted as a typed request extension by the auth layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The public part of the key; `local` with `--no-auth`.
    pub key_id: String,
    /// Team and user of the key; never from the request.
    pub scope: Scope,
    /// May use the administrative routes.
    pub admin: bool,
}
