//! Which module may import which, checked on the text of the sources.
//!
//! ```text
//! net base ◄─ net mechanisms ◄─ net::session ◄─ net::io ◄─┐
//!                                                         stream ◄─ cli ◄─ app ◄─ main
//!                                               video ◄───┘      ◄─ api
//! ```
//!
//! The base of `net` is `wire`, `frame`, `link`, `pool`, `route`, `time`, `frame_interval`,
//! `token_bucket`, `units` and `windowed_max`. Every other file of `net` outside `session` and `io`
//! is a mechanism. Mechanisms do not import each other, except that those in `framing` and
//! `recovery` may import `framing::fec`. `fuzzing` may import everything, and nothing may import
//! it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// A path that a file names, and its line.
#[derive(Debug, PartialEq)]
struct Mention {
    line: usize,
    path: Vec<String>,
}

#[test]
fn no_module_imports_a_higher_layer() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
    let mut files = Vec::new();
    collect(root, &mut files);
    assert!(files.len() > 20, "the sources are there");
    let mut violations = Vec::new();
    for file in files {
        let name = file.strip_prefix(root).expect("below src").to_owned();
        let module = module_of(&name);
        let text = fs::read_to_string(&file).expect("readable");
        for mention in mentions(&module, &text) {
            if let Some(rule) = broken_rule(&refs(&module), &refs(&mention.path)) {
                let (line, path) = (mention.line, mention.path.join("::"));
                violations.push(format!("src/{}:{line}: {path}: {rule}", name.display()));
            }
        }
    }
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

/// Files that import each other cannot be understood separately.
#[test]
fn no_files_import_each_other_in_a_cycle() {
    let sources = Sources::read();
    let edges = sources.edges();
    let mut cycles = Vec::new();
    for (from, targets) in &edges {
        for to in targets {
            if reaches(&edges, to, from) {
                cycles.push(format!("{} imports {}", from.join("::"), to.join("::")));
            }
        }
    }
    assert!(cycles.is_empty(), "in a cycle:\n{}", cycles.join("\n"));
}

type Module = Vec<String>;

/// The code of every module that has a file.
struct Sources(BTreeMap<Module, String>);

impl Sources {
    fn read() -> Self {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
        let mut files = Vec::new();
        collect(root, &mut files);
        let read = |file: &PathBuf| {
            let module = module_of(file.strip_prefix(root).expect("below src"));
            let text = fs::read_to_string(file).expect("readable");
            (module.clone(), code_of(&module, &text))
        };
        Self(files.iter().filter(|file| !file.ends_with("main.rs")).map(read).collect())
    }

    /// The modules that each module imports from. A re-export does not count: whoever imports it
    /// imports from the module that defines it.
    fn edges(&self) -> BTreeMap<&Module, BTreeSet<&Module>> {
        let imports: BTreeMap<&Module, Vec<(bool, Module)>> =
            self.0.iter().map(|(module, code)| (module, self.imports(module, code))).collect();
        let targets = |module: &Module| {
            let used = imports[module].iter().filter(|(is_reexport, _)| !is_reexport);
            let owners = used.map(|(_, path)| self.owner(&self.definition(path, &imports)));
            owners.filter(|owner| *owner != module && !owner.is_empty()).collect()
        };
        self.0.keys().map(|module| (module, targets(module))).collect()
    }

    /// The paths into this crate that `code` names, and whether it only re-exports them.
    fn imports(&self, module: &Module, code: &str) -> Vec<(bool, Module)> {
        let children = self.0.keys().filter(|m| m.len() == module.len() + 1);
        let children =
            children.filter(|m| m.starts_with(module)).map(|m| m.last().expect("a name"));
        let children: Vec<&String> = children.collect();
        let roots = ROOTS.map(str::to_owned).into_iter();
        let roots: Vec<String> = roots.chain(children.iter().map(|c| format!("{c}::"))).collect();
        let named = named_paths(code, &roots).into_iter().filter_map(|(start, path)| {
            let before = code[..start].rsplit('\n').next().unwrap_or_default().trim();
            if before.ends_with("(in") {
                return None;
            }
            let is_reexport = before.starts_with("pub") && before.ends_with("use");
            let is_child = children.contains(&&path[0]);
            let path =
                if is_child { [module.clone(), path].concat() } else { resolve(module, &path)? };
            Some((is_reexport, path))
        });
        named.collect()
    }

    /// Resolves `path` through modules that only import the name, to the module that defines it.
    fn definition(
        &self,
        path: &Module,
        imports: &BTreeMap<&Module, Vec<(bool, Module)>>,
    ) -> Module {
        let mut path = path.clone();
        for _ in 0..4 {
            let owner = self.owner(&path);
            let Some(name) = path.get(owner.len()) else { break };
            let imported = imports[owner].iter().map(|(_, target)| target);
            let Some(target) = imported.into_iter().find(|t| t.last() == Some(name)) else { break };
            path = [target.clone(), path[owner.len() + 1..].to_vec()].concat();
        }
        path
    }

    /// The innermost module with a file of its own that contains `path`.
    fn owner(&self, path: &Module) -> &Module {
        let longest = (0..=path.len()).rev().find_map(|len| self.0.get_key_value(&path[..len]));
        longest.expect("the root has a file").0
    }
}

fn reaches(edges: &BTreeMap<&Module, BTreeSet<&Module>>, from: &Module, to: &Module) -> bool {
    let (mut seen, mut open) = (BTreeSet::from([from]), vec![from]);
    while let Some(module) = open.pop() {
        if module == to {
            return true;
        }
        open.extend(edges[module].iter().filter(|next| seen.insert(next)));
    }
    false
}

/// The rule that `from` breaks by importing `to`.
fn broken_rule(from: &[&str], to: &[&str]) -> Option<&'static str> {
    match (from, to) {
        (["fuzzing", ..], _)
        | (["clock" | "video" | "stream" | "api" | "app", ..] | ["net", "io", ..], ["clock", ..]) => {
            None
        }
        (_, ["fuzzing", ..]) => Some("only tests may import fuzzing"),
        (_, ["clock", ..]) => Some("only net::io, video, stream, api and app may import clock"),
        (["api", ..], ["cli" | "app", ..]) => Some("api must not import cli or app"),
        (["net" | "video" | "stream" | "cli" | "app", ..], ["api", ..]) => {
            Some("only the root may import api")
        }
        (["net", ..], ["video" | "stream" | "cli" | "app", ..]) => {
            Some("net must not import video, stream, cli or app")
        }
        (["video", ..], ["net" | "stream" | "cli" | "app", ..]) => {
            Some("video must not import net, stream, cli or app")
        }
        (["stream", ..], ["cli" | "app", ..]) => Some("stream must not import cli or app"),
        (["cli", ..], ["app", ..]) => Some("cli must not import app"),
        (["net", from @ ..], ["net", to @ ..]) => broken_rule_in_net(from, to),
        (["net", below, ..], ["latest", ..]) if *below != "io" => {
            Some("in net, only io may import latest")
        }
        _ => None,
    }
}

/// The same for two paths below `net`.
fn broken_rule_in_net(from: &[&str], to: &[&str]) -> Option<&'static str> {
    let is_base = |path: &[&str]| {
        let base = [
            "wire",
            "frame",
            "link",
            "pool",
            "route",
            "time",
            "token_bucket",
            "units",
            "windowed_max",
            "frame_interval",
        ];
        path.first().is_some_and(|name| base.contains(name))
    };
    let is_mechanism = |path: &[&str]| !is_base(path) && !matches!(path[0], "session" | "io");
    match (from, to) {
        ([], _) | (_, []) => None,
        _ if is_base(to) || mechanism(from) == mechanism(to) => None,
        _ if is_base(from) => {
            Some("a base module of net (wire, frame, ...) must not import what is above it")
        }
        (["framing" | "recovery", ..], ["framing", "fec", ..]) => None,
        _ if is_mechanism(from) && is_mechanism(to) => {
            Some("mechanisms must not import each other")
        }
        _ if is_mechanism(from) => Some("a mechanism must not import session or io"),
        (["session", ..], ["io", ..]) => Some("session must not import io"),
        _ => None,
    }
}

/// The part of a path below `net` that names one mechanism, or one layer.
fn mechanism<'a>(path: &'a [&'a str]) -> &'a [&'a str] {
    let is_folder = matches!(path.first(), Some(&("framing" | "recovery" | "congestion" | "path")));
    &path[..path.len().min(if is_folder { 2 } else { 1 })]
}

pub(crate) fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> =
        fs::read_dir(folder).expect("readable").map(|e| e.expect("readable").path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

/// The module of a file below `src`: `net/wire/mod.rs` is `net::wire`.
fn module_of(file: &Path) -> Vec<String> {
    let mut module: Vec<String> =
        file.with_extension("").iter().map(|p| p.to_string_lossy().into_owned()).collect();
    if matches!(module.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        module.pop();
    }
    module
}

/// Every path into this crate that `text` names outside comments and unit tests, whether the tests
/// are at the foot of the file or in a file of their own.
fn mentions(module: &[String], text: &str) -> Vec<Mention> {
    let code = code_of(module, text);
    let named = named_paths(&code, &ROOTS.map(str::to_owned));
    let named = named.into_iter().filter_map(|(start, path)| {
        let line = code[..start].matches('\n').count() + 1;
        Some(Mention { line, path: resolve(module, &path)? })
    });
    named.collect()
}

/// `text` without comments and unit tests.
fn code_of(module: &[String], text: &str) -> String {
    if module.last().is_some_and(|name| name == "tests") {
        return String::new();
    }
    let tests = text.match_indices("\nmod tests").map(|(at, _)| at).find(|&at| {
        let attribute = text[..at].lines().next_back().unwrap_or_default();
        attribute.starts_with("#[cfg(") && attribute.contains("test")
    });
    let code = &text[..tests.unwrap_or(text.len())];
    let code: Vec<&str> =
        code.lines().map(|l| if l.trim_start().starts_with("//") { "" } else { l }).collect();
    code.join("\n")
}

/// Every path in `code` that begins with one of `roots`, with its byte offset.
fn named_paths(code: &str, roots: &[String]) -> Vec<(usize, Vec<String>)> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(start) = next_path(code, at, roots) {
        let (paths, len) = expand(&code[start..]);
        found.extend(paths.into_iter().map(|path| (start, path)));
        at = start + len.max(1);
    }
    found
}

/// The index, from `at` on, of the next path that begins with one of `roots`.
fn next_path(code: &str, at: usize, roots: &[String]) -> Option<usize> {
    let begins_word = |start: usize| {
        let before = code[..start].chars().next_back();
        before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':')
    };
    let of = |root: &str| {
        let hits = code[at..].match_indices(root).map(|(i, _)| at + i);
        hits.into_iter().find(|&start| begins_word(start))
    };
    roots.iter().filter_map(|root| of(root)).min()
}

/// The paths in a use tree such as `a::{b, c::d}`, and the tree's length in bytes.
fn expand(code: &str) -> (Vec<Vec<String>>, usize) {
    let mut at = 0;
    let mut path = Vec::new();
    loop {
        at += code[at..].len() - code[at..].trim_start().len();
        if code[at..].starts_with('{') {
            let (branches, len) = expand_branches(&code[at..]);
            let whole = |branch: Vec<String>| [path.clone(), branch].concat();
            return (branches.into_iter().map(whole).collect(), at + len);
        }
        let word = code[at..].find(|c: char| !c.is_alphanumeric() && c != '_' && c != '*');
        let word = &code[at..at + word.unwrap_or(code.len() - at)];
        if !word.is_empty() {
            path.push(word.to_owned());
        }
        at += word.len();
        if !code[at..].starts_with("::") {
            return (vec![path], at);
        }
        at += 2;
    }
}

fn expand_branches(code: &str) -> (Vec<Vec<String>>, usize) {
    let (mut at, mut branches) = (1, Vec::new());
    while at < code.len() && !code[at..].starts_with('}') {
        let (paths, len) = expand(&code[at..]);
        branches.extend(paths.into_iter().filter(|p| !p.is_empty()));
        at += len;
        // Skips the rest of a branch: its comma, or `as Name`.
        at += code[at..].find([',', '}']).unwrap_or(code.len() - at);
        at += usize::from(code[at..].starts_with(','));
    }
    (branches, at + 1)
}

/// A path relative to the crate's root; `None` if it leaves the crate.
fn resolve(module: &[String], path: &[String]) -> Option<Vec<String>> {
    let mut base = module.to_vec();
    let mut rest = path;
    while let Some((first, more)) = rest.split_first() {
        match first.as_str() {
            "crate" | "udpchat" => base.clear(),
            "super" => {
                base.pop()?;
            }
            "self" => {}
            _ => break,
        }
        rest = more;
    }
    Some([base, rest.to_vec()].concat())
}

fn refs(path: &[String]) -> Vec<&str> {
    path.iter().map(String::as_str).collect()
}

/// The first segments of paths into this crate. The binary refers to the library as `udpchat`.
const ROOTS: [&str; 4] = ["crate::", "super::", "self::", "udpchat::"];

#[test]
fn the_checker_finds_imported_paths() {
    let text = "//! [`crate::video`]\nuse crate::{\n    clock,\n    net::{io::{self, Driver}, \
                wire::VERSION as V},\n};\nfn f() { super::io::bind(udp::crate_name); }\n\
                #[cfg(test)]\nmod tests { use crate::app; }";
    let module = ["net".to_owned(), "session".to_owned()];
    let found = mentions(&module, text);
    let found: Vec<_> = found.iter().map(|m| (m.line, m.path.join("::"))).collect();
    let expected = [
        (2, "clock"),
        (2, "net::io::self"),
        (2, "net::io::Driver"),
        (2, "net::wire::VERSION"),
        (6, "net::io::bind"),
    ];
    assert_eq!(found, expected.map(|(line, path)| (line, path.to_owned())));
}

#[test]
fn layering_rules_forbid_exactly_the_wrong_imports() {
    let rule = |from: &str, to: &str| {
        let split = |path: &str| path.split("::").map(str::to_owned).collect::<Vec<_>>();
        broken_rule(&refs(&split(from)), &refs(&split(to))).is_some()
    };
    for (from, to) in [
        ("net::wire::video", "net::framing::packetizer::Packetizer"),
        ("net::frame", "net::session"),
        ("net::framing::fec", "net::framing::reassembler"),
        ("net::netem", "net::path::replay_window"),
        ("net::framing::reassembler", "net::session::CallId"),
        ("net::framing::reassembler", "clock::now"),
        ("net::session::call", "net::io::Driver"),
        ("net::session::call", "clock::now"),
        ("net::session::call", "latest::Latest"),
        ("net::io::driver", "app::verbs::send"),
        ("net::io::driver", "video::jpeg"),
        ("video::camera", "net::frame::FrameId"),
        ("video::camera", "cli::Args"),
        ("cli", "clock::now"),
        ("net::framing::reassembler", "fuzzing::reassembler"),
        ("app::verbs::send", "fuzzing::strips"),
        ("net::congestion::rate", "net::recovery::parity_control"),
        ("stream::decode", "app::receiving"),
        ("stream::adaptation", "cli::Quality"),
        ("net::io::driver", "stream::decode"),
        ("cli::args", "app::verbs"),
        ("api::sender", "app::network"),
        ("app::verbs::send", "api::Sender"),
    ] {
        assert!(rule(from, to), "{from} may not import {to}");
    }
    for (from, to) in [
        ("net::wire::video", "net::frame::FrameId"),
        ("net::netem", "net::wire"),
        ("net::recovery::retransmit_buffer", "net::framing::fec::Blocks"),
        ("net::session::call", "net::path::replay_window"),
        ("net::session::call", "net::session::CallId"),
        ("net::io::driver", "net::netem"),
        ("net::io::driver", "latest::Latest"),
        ("video::camera", "clock::now"),
        ("stream::decode", "video::jpeg"),
        ("stream::decode", "net::io::Handle"),
        ("cli::args", "stream::adaptation::Quality"),
        ("app::verbs::send", "net::io::Driver"),
        ("app::verbs::send", "video::jpeg"),
        ("", "net::io"),
        ("fuzzing::reassembler", "clock::now"),
        ("fuzzing::config", "app::trust"),
        ("api::sender", "stream::encode"),
        ("api::sender", "clock::now"),
    ] {
        assert!(!rule(from, to), "{from} may import {to}");
    }
}

/// Property tests draw the same cases in every run; `PROPTEST_CASES` scales their number.
#[test]
fn property_tests_share_one_seed_and_case_count() {
    let config = include_str!("../../.cargo/config.toml");
    assert!(config.contains("\nPROPTEST_RNG_SEED = "), "cargo gives every test the seed");
    let mut files = Vec::new();
    for folder in ["src", "tests"] {
        collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut files);
    }
    let fixed = ["with_cases", "rng_seed", "RngSeed", "TestRng", "TestRunner"];
    for file in files.into_iter().filter(|file| !file.ends_with("it/layering.rs")) {
        let text = fs::read_to_string(&file).expect("readable");
        let found = fixed.iter().find(|word| text.contains("proptest") && text.contains(**word));
        assert_eq!(found, None, "{}: divide ProptestConfig::default().cases", file.display());
        let cases = text.lines().filter(|line| line.trim_start().starts_with("cases:"));
        for line in cases.filter(|_| text.contains("proptest")) {
            let line = line.trim();
            assert!(line.starts_with("cases: ProptestConfig::default().cases"), "{line}");
        }
    }
    if std::env::var_os("CARGO").is_some() {
        let seed = proptest::test_runner::Config::default().rng_seed;
        assert!(matches!(seed, proptest::test_runner::RngSeed::Fixed(_)), "{seed:?}");
    }
}
