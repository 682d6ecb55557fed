//! What we call ourselves.

use crate::net::wire::text::Name;

/// `chosen`, or user@host.
pub(super) fn own_name(chosen: Option<&str>) -> Name {
    match chosen {
        Some(name) => Name::new(name),
        None => Name::new(&format!("{}@{}", user(), host())),
    }
}

fn user() -> String {
    let known = ["USER", "LOGNAME", "USERNAME"].iter().find_map(|key| std::env::var(key).ok());
    known.filter(|name| !name.is_empty()).unwrap_or_else(|| "somebody".into())
}

fn host() -> String {
    let uname = rustix::system::uname();
    let full = uname.nodename().to_string_lossy().into_owned();
    full.split('.').next().unwrap_or_default().to_owned()
}
