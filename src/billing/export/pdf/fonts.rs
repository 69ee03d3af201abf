//! Fonts: Noto Sans for Latin, Greek and Cyrillic is part of the program; other scripts have a font
//! of the machine, under `/usr/share/fonts`, where Debian's packages put them.
//!
//! A character that no font has prints as a box and is told in the log: a document never fails for
//! want of a font.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{LazyLock, Mutex, PoisonError},
};

use krilla::text::Font;
use unicode_script::{Script, UnicodeScript as _};

/// Where Debian and its kin keep fonts.
const FONT_DIRECTORY: &str = "/usr/share/fonts";
/// Chinese, Japanese and Korean, in order of preference: `fonts-noto-cjk`, `fonts-droid-fallback`.
const CJK: [&str; 4] = [
    "opentype/noto/NotoSansCJK-{weight}.ttc",
    "opentype/noto/NotoSansCJK-Regular.ttc",
    "truetype/droid/DroidSansFallbackFull.ttf",
    "truetype/droid/DroidSansFallback.ttf",
];
/// What may have a character whose script has no font of its own, or none that is installed.
const OTHERS: [&str; 6] = [
    "truetype/noto/NotoSansSymbols-{weight}.ttf",
    "truetype/noto/NotoSansSymbols2-Regular.ttf",
    "truetype/noto/NotoSansMath-Regular.ttf",
    "truetype/dejavu/DejaVuSans.ttf",
    "opentype/unifont/unifont.otf",
    "truetype/unifont/unifont.ttf",
];
/// What stands for a character that no font has, if the first font has it.
const BOX: [char; 3] = ['\u{fffd}', '\u{25a1}', '?'];

static REGULAR: &[u8] = include_bytes!("../../../../assets/fonts/NotoSans-Regular.ttf");
static BOLD: &[u8] = include_bytes!("../../../../assets/fonts/NotoSans-Bold.ttf");

/// Faces that were looked for, found or not. The files that can be asked for are few, and each stays
/// in memory once it was needed.
static LOADED: LazyLock<Mutex<HashMap<PathBuf, Option<&'static Face>>>> =
    LazyLock::new(Mutex::default);
static OWN: LazyLock<[Option<Face>; 2]> =
    LazyLock::new(|| [Face::read(REGULAR, 0), Face::read(BOLD, 0)]);

/// How heavy a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Weight {
    Regular,
    Bold,
}

impl Weight {
    const fn name(self) -> &'static str {
        match self {
            Self::Regular => "Regular",
            Self::Bold => "Bold",
        }
    }
}

/// One font as the shaper and the PDF see it.
pub(super) struct Face {
    pub(super) shaper: rustybuzz::Face<'static>,
    pub(super) font: Font,
}

impl Face {
    fn read(bytes: &'static [u8], index: u32) -> Option<Self> {
        Some(Self {
            shaper: rustybuzz::Face::from_slice(bytes, index)?,
            font: Font::new(bytes.into(), index)?,
        })
    }

    pub(super) fn has(&self, c: char) -> bool {
        self.shaper.glyph_index(c).is_some_and(|glyph| glyph.0 != 0)
    }
}

/// The font for text of our own.
pub(super) fn own(weight: Weight) -> Option<&'static Face> {
    match (&*OWN, weight) {
        ([Some(face), _], Weight::Regular) | ([_, Some(face)], Weight::Bold) => Some(face),
        _ => None,
    }
}

/// The first font that has a character.
pub(super) fn face_for(c: char, weight: Weight) -> Option<&'static Face> {
    if let Some(face) = own(weight).filter(|face| face.has(c)) {
        return Some(face);
    }
    let script = c.script();
    let of_script = match script {
        Script::Han | Script::Hiragana | Script::Katakana | Script::Hangul | Script::Bopomofo => {
            Vec::new()
        }
        script => {
            let name = script.full_name().replace('_', "");
            ["Sans", "Serif"]
                .into_iter()
                .flat_map(|style| ["{weight}", "Regular"].map(|weight| (style, weight)))
                .map(|(style, weight)| format!("truetype/noto/Noto{style}{name}-{weight}.ttf"))
                .collect()
        }
    };
    // Punctuation of full width is common to all scripts and is in the fonts of these.
    let names = of_script.iter().map(String::as_str).chain(CJK).chain(OTHERS);
    names
        .map(|name| Path::new(FONT_DIRECTORY).join(name.replace("{weight}", weight.name())))
        .filter_map(|path| loaded(&path))
        .find(|face| face.has(c))
}

/// What prints in place of a character that no font has.
pub(super) fn replacement(weight: Weight) -> char {
    BOX.into_iter().find(|c| own(weight).is_some_and(|face| face.has(*c))).unwrap_or('?')
}

fn loaded(path: &Path) -> Option<&'static Face> {
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(face) = loaded.get(path) {
        return *face;
    }
    let face = std::fs::read(path).ok().and_then(|bytes| Face::read(bytes.leak(), 0));
    let face = face.map(|face| &*Box::leak(Box::new(face)));
    loaded.insert(path.to_owned(), face);
    face
}
