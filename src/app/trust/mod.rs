//! Who we are, whom we know, and who may come in.
//!
//! - `secret_file`: identities and shared keys on disk.
//! - `known_peers`: the keys that we have met.
//! - `code`: what two people tell each other instead.
//! - `consent`: the rules.
//! - `questions`: what somebody at this machine is asked.
//! - `promises`: keys to be remembered once their owner is in a call.
//! - `quota`: how often a stranger may be spoken of.
//!
//! Here they are applied to what the network asks.

mod bounded_file;
pub(crate) mod code;
mod consent;
pub(crate) mod known_peers;
mod promises;
mod questions;
mod quota;
pub(crate) mod secret_file;

use std::{
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use etcetera::BaseStrategy;
use zeroize::Zeroizing;

use super::{messages::Messages, run::Usage, terminal};
use crate::{
    cli::args::{Accept, TrustArgs},
    clock,
    net::{
        crypto::keys::{Identity, PublicKey, SharedSecret},
        io::Handle,
        session::{Admission, AskId, Bare, Event, GiveUpReason, Peer, Verdict},
        wire::text::Name,
    },
};
use code::Code;
use consent::{Judgement, Policy, Somebody};
use known_peers::KnownPeers;
use promises::{Promises, Role};
use questions::{Question, Questions, Typed};
use quota::Quota;

/// What the network side is given.
#[derive(Clone, Debug)]
pub(super) struct Credentials {
    pub(super) identity: Identity,
    pub(super) secret: Option<SharedSecret>,
    pub(super) admission: Admission,
    pub(super) bare: Bare,
}

/// What a verb may do with somebody who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// It is the one that calls.
    Calls,
    /// It only shows what it is sent.
    Shows,
    /// It would show its camera.
    IsSeen,
}

/// Who we are, whom we know, and who may come in.
#[derive(Debug)]
pub(super) struct Trust {
    credentials: Credentials,
    /// None: there is nowhere to remember anybody.
    known: Option<KnownPeers>,
    policy: Policy,
    questions: Questions,
    promises: Promises,
    /// Whose coming and going is told: by key, and whether it was let in.
    told: Quota<(PublicKey, bool)>,
    /// Why we do not speak with a host that we called.
    distrust: Option<String>,
}

impl Credentials {
    /// Those of a side that meets nobody but this program's other one.
    pub(super) fn throw_away() -> Self {
        Self {
            identity: Identity::generate(),
            secret: None,
            admission: Admission::Anyone,
            bare: Bare::Clear,
        }
    }
}

impl Trust {
    /// As the options say. Whoever may be asked is at the terminal that standard input is.
    ///
    /// Without a `control` channel nobody proves who they are: neither the identity nor the known
    /// peers are touched, and they may be out of reach.
    pub(super) fn new(
        args: &TrustArgs,
        control: bool,
        accept: Option<Accept>,
        key_file: Option<&Path>,
        side: Side,
        messages: &Messages,
    ) -> Result<Self> {
        let (identity, known) =
            if control { own_files(args, messages)? } else { (Identity::generate(), None) };
        let code = code(args, side, messages)?;
        let policy = policy(accept, side, code.is_some())?;
        let bare = match key_file {
            Some(path) => Bare::Sealed(shared_key(path, messages)?),
            None if policy == Policy::Known || code.is_some() => Bare::Refused,
            None => Bare::Clear,
        };
        let secret = code.map(|code| code.secret());
        let credentials = Credentials { identity, secret, admission: Admission::Asked, bare };
        let (questions, promises) = (Questions::new(), Promises::default());
        let told = Quota::a_minute(1, MAX_TOLD_A_MINUTE);
        Ok(Self { credentials, known, policy, questions, promises, told, distrust: None })
    }

    pub(super) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Answers what the network asks, or asks whoever is at the terminal.
    pub(super) fn hear(&mut self, event: &Event, handle: &Handle, messages: &Messages) {
        match event {
            Event::Asked { ask, peer, key, host, has_code } => {
                let host = host.as_ref().map(|host| with_port(host, peer.addr.port()));
                let somebody = Somebody { peer, key: *key, host, has_code: *has_code };
                self.judge(*ask, &somebody, handle, messages);
            }
            Event::AskEnded { ask } => {
                if let Some((question, true)) = self.questions.withdraw(*ask) {
                    messages.say(&format!("{} calls no more", super::events::who(&question.peer)));
                }
            }
            Event::Connected { peer, .. } => {
                for (key, role) in self.promises.keep(peer) {
                    self.remember(key, role, messages);
                }
            }
            _ => {}
        }
        self.show_question(messages);
    }

    /// Why a host was given up, if we know better than the network.
    pub(super) fn explain(&mut self, event: &Event) -> Option<String> {
        match event {
            Event::GivenUp { reason: GiveUpReason::Untrusted, .. } => self.distrust.take(),
            _ => None,
        }
    }

    /// Takes a line from the terminal, if there is a question that it may answer.
    pub(super) fn take_typed(&mut self, line: &str, handle: &Handle, messages: &Messages) -> bool {
        match self.questions.answer(clock::now(), line) {
            Typed::NoAnswer => return false,
            Typed::TooSoon => messages.ask("that came before the question could be read: again?"),
            Typed::Unclear => messages.ask("yes or no?"),
            Typed::Answer(Question { ask, peer, key, .. }, true) => {
                let name = peer.name.unwrap_or_else(|| Name::new(""));
                self.promises.make(peer.addr, key, Role::Caller(name));
                handle.answer(ask, Verdict::Admit);
            }
            Typed::Answer(question, false) => handle.answer(question.ask, Verdict::Refuse),
        }
        self.show_question(messages);
        true
    }

    /// Shows the question that had to wait, once it may be shown.
    pub(super) fn tick(&mut self, messages: &Messages) {
        self.show_question(messages);
    }

    /// Who calls and waits for an answer that is to be typed in the terminal.
    pub(super) fn caller(&self) -> Option<&Peer> {
        self.questions.shown().map(|question| &question.peer)
    }

    fn show_question(&mut self, messages: &Messages) {
        if let Some(question) = self.questions.show(clock::now()) {
            let where_to = if terminal::is_foreground() { "" } else { " (in the foreground: fg)" };
            messages.ask(&format!("{}{where_to}", question.text));
        }
    }

    fn judge(&mut self, ask: AskId, somebody: &Somebody<'_>, handle: &Handle, messages: &Messages) {
        let own = self.credentials.identity.public_key();
        let judged = self.policy.judge(somebody, own, self.known.as_ref());
        let judgement = judged.unwrap_or_else(|error| Judgement::Refuse(format!("{error:#}")));
        let (now, key, addr) = (clock::now(), somebody.key, somebody.peer.addr);
        let verdict = match judgement {
            Judgement::Admit(line) => {
                if let Some(line) = line
                    && self.told.take(now, (key, true))
                {
                    messages.say(&line);
                }
                Verdict::Admit
            }
            Judgement::Pin(host) => {
                if self.promises.make(addr, key, Role::Host(host.clone())) {
                    messages.say(&format!("{host} has the fingerprint {}", key.fingerprint()));
                }
                Verdict::Admit
            }
            Judgement::Refuse(why) => {
                if somebody.host.is_some() {
                    self.distrust = Some(why);
                } else if self.told.take(now, (key, false)) {
                    messages.say(&why);
                }
                Verdict::Refuse
            }
            Judgement::Ask(text) => {
                let question = Question { ask, peer: somebody.peer.clone(), key, text };
                return self.questions.push(question);
            }
        };
        handle.answer(ask, verdict);
    }

    fn remember(&self, key: PublicKey, role: Role, messages: &Messages) {
        let Some(known) = &self.known else { return };
        let pinned = match role {
            Role::Host(host) => known.pin_host(&host, key),
            Role::Caller(name) => known.pin_caller(name, key),
        };
        if let Err(error) = pinned {
            messages.say(&format!("it is not remembered: {error:#}"));
        }
    }
}

/// Who we are, and whom we know: in the files that the options name, else in the user's
/// configuration folder.
///
/// If that folder can be neither read nor created, the run uses a temporary identity, recognises nobody, and
/// says so once. A file that an option names must be readable. A file that exists but cannot be read is an
/// error; it is never replaced.
fn own_files(args: &TrustArgs, messages: &Messages) -> Result<(Identity, Option<KnownPeers>)> {
    let folder = etcetera::choose_base_strategy().ok().map(|s| s.config_dir().join("udpchat"));
    let usual = |name: &str| {
        let no_home = || OutOfReach("there is no home folder".to_owned());
        folder.as_ref().map(|folder| folder.join(name)).ok_or_else(no_home)
    };
    let identity = match &args.identity {
        Some(path) => Ok(identity_in(path, messages)?),
        None => reached(usual("identity"), |path| identity_in(path, messages))?,
    };
    let known = match &args.known_peers {
        Some(path) => Ok(known_in(path)?),
        None => match (&identity, reached(usual("known_peers"), known_in)?) {
            // Nobody could be added.
            (Err(why), Ok(known)) if !known.path().exists() => Err(why.clone()),
            (_, known) => known,
        },
    };
    if let Some(line) = out_of_reach(identity.as_ref().err(), known.as_ref().err()) {
        messages.say(&line);
    }
    Ok((identity.unwrap_or_else(|_| Identity::generate()), known.ok()))
}

/// Why there can be no file in the configuration folder.
#[derive(Clone, Debug)]
struct OutOfReach(String);

/// What `open` makes of the file at `path`, if it is or can be there.
fn reached<T>(
    path: Result<PathBuf, OutOfReach>,
    open: impl FnOnce(&Path) -> Result<T>,
) -> Result<Result<T, OutOfReach>> {
    let path = match path {
        Ok(path) => path,
        Err(why) => return Ok(Err(why)),
    };
    match open(&path) {
        Ok(opened) => Ok(Ok(opened)),
        Err(error) if error.is::<std::io::Error>() && path.metadata().is_err() => {
            Ok(Err(OutOfReach(format!("{error:#}"))))
        }
        Err(error) => Err(error),
    }
}

/// What is said when the identity, the known peers or both are out of reach.
fn out_of_reach(identity: Option<&OutOfReach>, known: Option<&OutOfReach>) -> Option<String> {
    let OutOfReach(why) = identity.or(known)?;
    Some(match (identity, known) {
        (Some(_), Some(_)) => format!(
            "{why}: this run uses a temporary identity and recognises nobody (--identity FILE --known-peers FILE)"
        ),
        (Some(_), None) => format!("{why}: this run uses a temporary identity (--identity FILE)"),
        (None, _) => format!("{why}: this run recognises nobody (--known-peers FILE)"),
    })
}

/// The identity in `path`, made if it is not there.
fn identity_in(path: &Path, messages: &Messages) -> Result<Identity> {
    let made = || {
        let identity = Identity::generate();
        let fingerprint = identity.public_key().fingerprint();
        let bytes = Zeroizing::new(*identity.as_bytes());
        (
            bytes,
            format!("udpchat: who you are, with the fingerprint {fingerprint}; for nobody else"),
        )
    };
    let secret = secret_file::read_or_make(path, made)?;
    let identity = Identity::from_bytes(*secret.bytes);
    if secret.is_new {
        let fingerprint = identity.public_key().fingerprint();
        messages.say(&format!("your fingerprint is {fingerprint}, in {}", path.display()));
    }
    Ok(identity)
}

/// The known peers in `path`. That they cannot be read is said now rather than when somebody calls.
fn known_in(path: &Path) -> Result<KnownPeers> {
    let known = KnownPeers::in_file(path.to_owned());
    known.check()?;
    Ok(known)
}

/// The key of sessions without a control channel, made if it is not there.
fn shared_key(path: &Path, messages: &Messages) -> Result<SharedSecret> {
    let make = || {
        let bytes = Zeroizing::new(*SharedSecret::generate().as_bytes());
        (bytes, "udpchat: a key for both sides, and for nobody else".to_owned())
    };
    let secret = secret_file::read_or_make(path, make)?;
    if secret.is_new {
        messages.say(&format!("made {0}: copy it to the other side", path.display()));
    }
    Ok(SharedSecret::from_bytes(*secret.bytes))
}

/// The code that both sides are to know, if any: given, made here, or typed.
fn code(args: &TrustArgs, side: Side, messages: &Messages) -> Result<Option<Code>> {
    let Some(given) = &args.code else { return Ok(None) };
    if !given.is_empty() {
        return Code::typed(given).map(Some);
    }
    if side != Side::Calls {
        let code = Code::generate();
        messages.ask(&format!("the code is {code}: type it on the other machine when it asks"));
        return Ok(Some(code));
    }
    if !std::io::stdin().is_terminal() {
        let said = "--code needs the other side's code: --code CODE, or UDPCHAT_CODE=CODE";
        return Err(Usage::new(said).into());
    }
    if !terminal::is_foreground() {
        messages.ask("the other side's code is asked for in the foreground: fg");
        terminal::wait_for_foreground();
    }
    let _ = write!(std::io::stderr(), "the other side's code: ");
    let typed = Zeroizing::new(rpassword::read_password().context("cannot read the code")?);
    Code::typed(&typed).map(Some)
}

fn policy(accept: Option<Accept>, side: Side, has_code: bool) -> Result<Policy> {
    Ok(match (accept, side) {
        (Some(Accept::Known), _) => Policy::Known,
        (Some(Accept::Code), _) if !has_code => {
            return Err(Usage::new("--accept code needs a code: --code, or --code CODE").into());
        }
        (Some(Accept::Code), _) => Policy::Code,
        (None, _) if has_code => Policy::Code,
        (None, Side::IsSeen) => Policy::Ask { can_ask: std::io::stdin().is_terminal() },
        (Some(Accept::Any), _) | (None, Side::Calls | Side::Shows) => Policy::Anyone,
    })
}

/// A host as it stands in the file of those that we know.
fn with_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Lines about callers; keys are made for nothing.
const MAX_TOLD_A_MINUTE: usize = 20;
