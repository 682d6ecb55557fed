//! The name that we announce.

use crate::net::wire::text::Name;

/// `chosen`, or user@host.
pub(crate) fn own_name(chosen: Option<&str>) -> Name {
    match chosen {
        Some(name) => Name::new(name),
        None => Name::new(&format!("{}@{}", user(), host())),
    }
}

fn user() -> String {
    let set = ["USER", "LOGNAME", "USERNAME"].iter().find_map(|key| std::env::var(key).ok());
    set.filter(|name| !name.is_empty()).unwrap_or_else(user_of_process)
}

/// The user's name from the user database: a service's environment often has none.
#[cfg(unix)]
fn user_of_process() -> String {
    use nix::unistd::{User, geteuid};

    let uid = geteuid();
    let user = User::from_uid(uid).ok().flatten();
    user.map_or_else(|| format!("user {uid}"), |user| user.name)
}

#[cfg(not(unix))]
fn user_of_process() -> String {
    "somebody".into()
}

fn host() -> String {
    let uname = rustix::system::uname();
    let full = uname.nodename().to_string_lossy().into_owned();
    full.split('.').next().unwrap_or_default().to_owned()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn the_user_database_names_the_user_of_the_process() {
        let id = std::process::Command::new("id").arg("-un").output().unwrap();
        let expected = String::from_utf8(id.stdout).unwrap();
        assert_eq!(user_of_process(), expected.trim());
    }
}
