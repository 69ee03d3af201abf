//! From a text in any script to glyphs: bidirectional order, a font for each part, shaping, lines.

use krilla::text::{GlyphId, KrillaGlyph};
use rustybuzz::{Direction, UnicodeBuffer};
use unicode_bidi::{BidiInfo, Level};
use unicode_script::{Script, UnicodeScript as _};

use super::fonts::{self, Face, Weight};

/// Characters of a text that are looked at: a page holds fewer.
const LONGEST: usize = 4_000;

/// Part of a line in one font and direction.
pub(super) struct Piece {
    pub(super) face: &'static Face,
    pub(super) text: String,
    pub(super) glyphs: Vec<KrillaGlyph>,
    /// In parts of the font's size.
    width: f32,
}

/// A line that is ready to print: its pieces from left to right.
pub(super) struct ShapedLine {
    pub(super) pieces: Vec<(f32, Piece)>,
    pub(super) size: f32,
    pub(super) width: f32,
}

/// Shapes one line.
pub(super) fn shape(text: &str, size: f32, weight: Weight) -> ShapedLine {
    let text: String = text
        .chars()
        .filter(|c| !is_override(*c))
        .take(LONGEST)
        .map(|c| if c.is_control() || c == '\u{2028}' || c == '\u{2029}' { ' ' } else { c })
        .collect();
    let bidi = BidiInfo::new(&text, None);
    let mut line = ShapedLine { pieces: Vec::new(), size, width: 0.0 };
    for paragraph in &bidi.paragraphs {
        let (levels, runs) = bidi.visual_runs(paragraph, paragraph.range.clone());
        for run in runs {
            let level = levels.get(run.start).copied().unwrap_or(Level::ltr());
            let mut parts = by_font(text.get(run).unwrap_or_default(), weight);
            if level.is_rtl() {
                parts.reverse();
            }
            for (face, part) in parts {
                let piece = shape_piece(face, part, level.is_rtl());
                let at = line.width;
                line.width += piece.width * size;
                line.pieces.push((at, piece));
            }
        }
    }
    line
}

/// Parts that one font has. What belongs to no script of its own, such as a blank or a combining
/// mark, stays with the font before it if that has it.
fn by_font(text: &str, weight: Weight) -> Vec<(&'static Face, String)> {
    let mut parts: Vec<(&'static Face, String)> = Vec::new();
    for c in text.chars() {
        let is_neutral = matches!(c.script(), Script::Common | Script::Inherited);
        if let Some((face, part)) = parts.last_mut()
            && is_neutral
            && (face.has(c) || is_invisible(c))
        {
            part.push(c);
            continue;
        }
        let (face, c) = match fonts::face_for(c, weight) {
            Some(face) => (face, c),
            None if is_invisible(c) => continue,
            None => {
                tracing::warn!(
                    character = %c.escape_unicode(),
                    script = c.script().full_name(),
                    "no font has a character of a document; it prints as a box"
                );
                let Some(face) = fonts::own(weight) else { continue };
                (face, fonts::replacement(weight))
            }
        };
        match parts.last_mut() {
            Some((last, part)) if std::ptr::eq(*last, face) => part.push(c),
            _ => parts.push((face, c.to_string())),
        }
    }
    parts
}

/// Joiners, direction marks and variation selectors have no glyph of their own.
const fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{206f}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ad}')
}

/// Marks that turn the order of what follows, by which a name could pass for another one.
const fn is_override(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn shape_piece(face: &'static Face, text: String, is_rtl: bool) -> Piece {
    let mut buffer = UnicodeBuffer::new();
    buffer.push_str(&text);
    buffer.guess_segment_properties();
    buffer.set_direction(if is_rtl { Direction::RightToLeft } else { Direction::LeftToRight });
    let shaped = rustybuzz::shape(&face.shaper, &[], buffer);
    let mut clusters: Vec<usize> =
        shaped.glyph_infos().iter().map(|info| info.cluster as usize).collect();
    clusters.sort_unstable();
    clusters.dedup();
    let units = face.font.units_per_em();
    let scaled = |units_of_font: i32| to_float(units_of_font) / units;
    let placed = shaped.glyph_infos().iter().zip(shaped.glyph_positions());
    let glyphs: Vec<KrillaGlyph> = placed
        .filter(|(info, _)| info.glyph_id != 0)
        .map(|(info, position)| {
            let start = info.cluster as usize;
            let next = clusters.iter().find(|cluster| **cluster > start);
            KrillaGlyph::new(
                GlyphId::new(info.glyph_id),
                scaled(position.x_advance),
                scaled(position.x_offset),
                scaled(position.y_offset),
                scaled(position.y_advance),
                start..next.copied().unwrap_or(text.len()),
                None,
            )
        })
        .collect();
    let width = glyphs.iter().map(|glyph| glyph.x_advance).sum();
    Piece { face, text, glyphs, width }
}

/// Advances are some thousands, which a float holds exactly.
#[expect(clippy::cast_precision_loss, reason = "units of a font are far below 2^24")]
const fn to_float(units: i32) -> f32 {
    units as f32
}

/// Breaks a text into lines of at most this width: between words where it can, within a word that
/// is wider than a line, as words are in scripts without blanks.
pub(super) fn wrap(text: &str, size: f32, weight: Weight, width: f32) -> Vec<ShapedLine> {
    let measure = |text: &str| shape(text, size, weight).width;
    let blank = measure(" ");
    let mut lines: Vec<String> = Vec::new();
    for paragraph in text.lines() {
        let (mut line, mut used) = (String::new(), 0.0);
        for word in paragraph.split_whitespace() {
            let wide = measure(word);
            let gap = if line.is_empty() { 0.0 } else { blank };
            if used + gap + wide <= width {
                if !line.is_empty() {
                    line.push(' ');
                }
                line.push_str(word);
                used += gap + wide;
                continue;
            }
            if !line.is_empty() {
                lines.push(std::mem::take(&mut line));
            }
            let mut pieces = broken(word, width, &measure);
            line = pieces.pop().unwrap_or_default();
            used = measure(&line);
            lines.append(&mut pieces);
        }
        lines.push(line);
    }
    lines.iter().map(|line| shape(line, size, weight)).collect()
}

/// A word in pieces that fit; a mark is never parted from what it marks.
fn broken(word: &str, width: f32, measure: &dyn Fn(&str) -> f32) -> Vec<String> {
    if measure(word) <= width {
        return vec![word.to_owned()];
    }
    let mut pieces = vec![String::new()];
    let mut used = 0.0;
    for c in word.chars() {
        let wide = measure(c.encode_utf8(&mut [0; 4]));
        let is_mark = c.script() == Script::Inherited || is_invisible(c) || wide == 0.0;
        match pieces.last_mut() {
            Some(piece) if used + wide <= width || is_mark || piece.is_empty() => {
                piece.push(c);
                used += wide;
            }
            _ => {
                pieces.push(c.to_string());
                used = wide;
            }
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_break_between_words_and_long_words_within() {
        let text = "Availability of 99.42% in October 2026: ten percent of the charges";
        let lines = wrap(text, 9.0, Weight::Regular, 100.0);
        assert!(lines.len() >= 3 && lines.iter().all(|line| line.width <= 100.0));
        let lines = wrap(&"x".repeat(100), 9.0, Weight::Regular, 100.0);
        assert!(lines.len() >= 4 && lines.iter().all(|line| line.width <= 100.0));
        assert!(wrap("", 9.0, Weight::Regular, 100.0).is_empty());
    }

    #[test]
    fn whatever_a_name_holds_it_has_glyphs() {
        for name in [
            "Müller & Söhne",
            "Ελληνική ΑΕ",
            "ООО «Ромашка»",
            "株式会社テスト",
            "شركة المثال 42",
            "חברה בע\"מ",
            "บริษัท ตัวอย่าง",
            "उदाहरण प्राइवेट लिमिटेड",
            "\u{1f980}\u{200d}\u{7}\u{10ffff}",
        ] {
            let line = shape(name, 10.0, Weight::Bold);
            assert!(line.width > 0.0, "{name}");
            for (_, piece) in &line.pieces {
                assert!(piece.glyphs.iter().all(|glyph| glyph.glyph_id.to_u32() != 0), "{name}");
            }
        }
    }

    #[test]
    fn a_name_cannot_turn_the_order_of_letters() {
        let line = shape("Gateway \u{202e}dtL", 10.0, Weight::Regular);
        let texts: String = line.pieces.iter().map(|(_, piece)| piece.text.as_str()).collect();
        assert_eq!(texts, "Gateway dtL");
    }

    #[test]
    #[expect(clippy::print_stderr, reason = "a test tells what it could not look at")]
    fn right_to_left_parts_stand_in_visual_order() {
        if fonts::face_for('ש', Weight::Regular).is_none() {
            assert!(std::env::var_os("CI").is_none(), "no font has Hebrew");
            eprintln!("no font has Hebrew, so that its order was not looked at");
            return;
        }
        let line = shape("abc שלום 12", 10.0, Weight::Regular);
        let texts: Vec<&str> = line.pieces.iter().map(|(_, piece)| piece.text.trim()).collect();
        assert_eq!(texts.first().copied(), Some("abc"), "{texts:?}");
        let hebrew = texts.iter().position(|text| text.contains('ש')).unwrap();
        let digits = texts.iter().position(|text| text.contains("12")).unwrap();
        // In a paragraph from left to right, a number after Hebrew stands to its left.
        assert!(digits < hebrew, "{texts:?}");
    }
}
