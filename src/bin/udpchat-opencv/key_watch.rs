//! Key presses from the X display, independent of the window toolkit.
//!
//! Several clients may select the key presses of a window (X protocol, `ChangeWindowAttributes`),
//! and each receives all of them.
//!
//! The end of this connection also shows that the display is gone, before the toolkit notices and
//! ends the whole process.

use std::time::{Duration, Instant};

use x11rb::{
    connection::Connection,
    errors::{ConnectionError, ReplyError},
    protocol::{
        Event,
        xproto::{
            Atom, AtomEnum, ChangeWindowAttributesAux, ConnectionExt, EventMask, KeyButMask,
            KeyPressEvent, Window,
        },
    },
    rust_connection::RustConnection,
};

/// Watches the windows of this process that have one of the titles.
#[derive(Debug)]
pub(crate) struct KeyWatch {
    titles: Vec<String>,
    /// `None`: there is no X display, or the connection is lost.
    display: Option<Display>,
    windows: Vec<Window>,
    /// Whether any of the windows has been found, so that this is known to be their display.
    is_proven: bool,
    search_at: Option<Instant>,
    /// The keys read but not yet taken.
    keys: Vec<u8>,
    /// Why the connection to the display of our windows is lost.
    loss: Option<ConnectionError>,
}

#[derive(Debug)]
struct Display {
    connection: RustConnection,
    root: Window,
    keyboard: Keyboard,
}

/// The keyboard mapping: the keysyms of each key.
#[derive(Debug)]
struct Keyboard {
    min_keycode: u8,
    columns: usize,
    keysyms: Vec<u32>,
}

impl KeyWatch {
    pub(crate) fn new(titles: Vec<String>) -> Self {
        let display = Display::open()
            .inspect_err(|error| eprintln!("keys are read from highgui only: {error}"));
        Self {
            titles,
            display: display.ok(),
            windows: Vec::new(),
            is_proven: false,
            search_at: None,
            keys: Vec::new(),
            loss: None,
        }
    }

    /// Why the display of our windows is gone, if it is.
    pub(crate) fn loss(&mut self) -> Option<&ConnectionError> {
        self.read();
        self.loss.as_ref()
    }

    /// The keys since the last call; `None` if the display does not report them.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.search_at.is_none_or(|at| at <= now) && self.windows.len() < self.titles.len() {
            self.search_at = Some(now + SEARCH_INTERVAL);
            let found = self.display.as_ref()?.select_keys(&self.titles);
            match found {
                Ok(found) => {
                    self.is_proven |= !found.is_empty();
                    self.windows = found;
                }
                Err(error) => self.give_up(error),
            }
        }
        self.read();
        self.display.as_ref()?;
        Some(std::mem::take(&mut self.keys))
    }

    fn read(&mut self) {
        let Some(display) = &mut self.display else { return };
        if let Err(error) = display.read_keys(&mut self.windows, &mut self.keys) {
            self.give_up(error);
        }
    }

    fn give_up(&mut self, error: ReplyError) {
        eprintln!("keys are read from highgui only from now on: {error}");
        self.display = None;
        if let ReplyError::ConnectionError(error) = error {
            self.loss = Some(error).filter(|_| self.is_proven);
        }
    }
}

impl Display {
    fn open() -> Result<Self, Box<dyn std::error::Error>> {
        let (connection, screen) = x11rb::connect(None)?;
        let root = connection.setup().roots[screen].root;
        let keyboard = Keyboard::read(&connection)?;
        Ok(Self { connection, root, keyboard })
    }

    /// Selects the key presses of this process's windows with these titles.
    fn select_keys(&self, titles: &[String]) -> Result<Vec<Window>, ReplyError> {
        let pid = self.connection.intern_atom(false, b"_NET_WM_PID")?.reply()?.atom;
        let is_ours = |window| self.is_own(window, pid, titles).unwrap_or(false);
        let found: Vec<Window> = self.windows()?.into_iter().filter(|&w| is_ours(w)).collect();
        let mask = EventMask::KEY_PRESS | EventMask::STRUCTURE_NOTIFY;
        let selected = ChangeWindowAttributesAux::new().event_mask(mask);
        for &window in &found {
            self.connection.change_window_attributes(window, &selected)?;
        }
        self.connection.flush()?;
        Ok(found)
    }

    /// All windows that may be ours: a window manager nests them in its own windows.
    fn windows(&self) -> Result<Vec<Window>, ReplyError> {
        let mut windows = vec![self.root];
        let mut level = vec![self.root];
        for _ in 0..MAX_DEPTH {
            let asked: Result<Vec<_>, _> =
                level.iter().map(|&window| self.connection.query_tree(window)).collect();
            // A window may disappear in the meantime.
            let replies = asked?.into_iter().filter_map(|cookie| cookie.reply().ok());
            level = replies.flat_map(|reply| reply.children).collect();
            windows.extend_from_slice(&level);
        }
        Ok(windows)
    }

    fn is_own(&self, window: Window, pid: u32, titles: &[String]) -> Result<bool, ReplyError> {
        let property = |name: Atom, kind: AtomEnum| {
            self.connection.get_property(false, window, name, kind, 0, MAX_TITLE_LEN / 4)
        };
        let owner = property(pid, AtomEnum::CARDINAL)?;
        let title = property(AtomEnum::WM_NAME.into(), AtomEnum::ANY)?;
        let (owner, title) = (owner.reply()?, title.reply()?);
        let owner = owner.value32().and_then(|mut values| values.next());
        let has_title = titles.iter().any(|wanted| wanted.as_bytes() == title.value);
        Ok(owner == Some(std::process::id()) && has_title)
    }

    /// Adds the keys pressed since the last call. Removes destroyed windows from the list.
    fn read_keys(
        &mut self,
        windows: &mut Vec<Window>,
        keys: &mut Vec<u8>,
    ) -> Result<(), ReplyError> {
        while let Some(event) = self.connection.poll_for_event()? {
            match event {
                Event::KeyPress(press) => keys.extend(self.keyboard.ascii(&press)),
                Event::MappingNotify(_) => self.keyboard = Keyboard::read(&self.connection)?,
                Event::DestroyNotify(gone) => windows.retain(|&window| window != gone.window),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Keyboard {
    fn read(connection: &RustConnection) -> Result<Self, ReplyError> {
        let setup = connection.setup();
        let (min_keycode, max_keycode) = (setup.min_keycode, setup.max_keycode);
        let count = max_keycode - min_keycode + 1;
        let mapping = connection.get_keyboard_mapping(min_keycode, count)?.reply()?;
        let columns = usize::from(mapping.keysyms_per_keycode);
        Ok(Self { min_keycode, columns, keysyms: mapping.keysyms })
    }

    /// The first of the key's keysyms that is printable ASCII or Escape: usually its unshifted
    /// character in the first layout that has one. `None` also for shortcuts of the window manager
    /// or the toolkit.
    fn ascii(&self, press: &KeyPressEvent) -> Option<u8> {
        let shortcut = KeyButMask::CONTROL | KeyButMask::MOD1 | KeyButMask::MOD4;
        if u16::from(press.state) & u16::from(shortcut) != 0 {
            return None;
        }
        let row = usize::from(press.detail.checked_sub(self.min_keycode)?) * self.columns;
        let keysyms = self.keysyms.get(row..row + self.columns)?;
        keysyms.iter().find_map(|&keysym| match keysym {
            ESCAPE_KEYSYM => Some(ESCAPE),
            // The keysyms of Latin-1 are its characters (X protocol, appendix A).
            0x20..=0x7e => u8::try_from(keysym).ok(),
            _ => None,
        })
    }
}

/// From the root: the window manager's frame, perhaps another one in it, the window.
const MAX_DEPTH: usize = 3;

/// In bytes; our titles are shorter.
const MAX_TITLE_LEN: u32 = 256;

/// The interval between searches for windows not found yet.
const SEARCH_INTERVAL: Duration = Duration::from_millis(500);

const ESCAPE_KEYSYM: u32 = 0xff1b;
const ESCAPE: u8 = 27;

#[cfg(test)]
mod tests {
    use super::*;

    fn press(detail: u8, state: KeyButMask) -> KeyPressEvent {
        KeyPressEvent {
            response_type: 2,
            detail,
            sequence: 0,
            time: 0,
            root: 0,
            event: 0,
            child: 0,
            root_x: 0,
            root_y: 0,
            event_x: 0,
            event_y: 0,
            state,
            same_screen: true,
        }
    }

    #[test]
    fn a_key_maps_to_ascii_in_any_keyboard_layout() {
        // q; Cyrillic and s; Escape; F1.
        let keysyms = vec![0x71, 0x51, 0x6ca, 0x73, ESCAPE_KEYSYM, 0, 0xffbe, 0];
        let keyboard = Keyboard { min_keycode: 8, columns: 2, keysyms };
        let ascii = |detail, state| keyboard.ascii(&press(detail, state));
        let none = KeyButMask::default();
        assert_eq!(ascii(8, none), Some(b'q'));
        assert_eq!(ascii(8, KeyButMask::LOCK | KeyButMask::SHIFT), Some(b'q'));
        assert_eq!(ascii(8, KeyButMask::CONTROL), None);
        assert_eq!(ascii(9, none), Some(b's'));
        assert_eq!(ascii(10, none), Some(ESCAPE));
        assert_eq!((ascii(11, none), ascii(12, none), ascii(7, none)), (None, None, None));
    }
}
