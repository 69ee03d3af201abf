//! Paper: pages that are laid out from top to bottom, and drawn once all of them are known.

use krilla::{
    Document as Pdf,
    color::rgb,
    geom::{PathBuilder, Point, Rect},
    num::NormalizedF32,
    page::PageSettings,
    paint::Fill,
};

use super::{
    fonts::Weight,
    text::{ShapedLine, shape, wrap},
};

/// A4 in points.
pub(super) const WIDTH: f32 = 595.28;
pub(super) const HEIGHT: f32 = 841.89;
pub(super) const MARGIN: f32 = 50.0;
/// The right edge of what is printed.
pub(super) const RIGHT: f32 = WIDTH - MARGIN;
/// Nothing but the foot is printed below.
const BOTTOM: f32 = HEIGHT - 64.0;
const FOOT: f32 = HEIGHT - 38.0;
/// From one line to the next, in parts of the size: enough for scripts with marks above and below.
const LEADING: f32 = 1.42;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ink {
    Black,
    Grey,
    Faint,
    Shade,
}

impl Ink {
    fn fill(self) -> Fill {
        let level = match self {
            Self::Black => 0x1a,
            Self::Grey => 0x60,
            Self::Faint => 0xb8,
            Self::Shade => 0xf3,
        };
        Fill {
            paint: rgb::Color::new(level, level, level).into(),
            opacity: NormalizedF32::ONE,
            ..Fill::default()
        }
    }
}

/// How a text looks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    pub(super) size: f32,
    pub(super) weight: Weight,
    pub(super) ink: Ink,
}

impl Style {
    pub(super) const fn new(size: f32, weight: Weight, ink: Ink) -> Self {
        Self { size, weight, ink }
    }

    /// From one line's top to the next one's.
    pub(super) fn leading(self) -> f32 {
        self.size * LEADING
    }
}

enum Mark {
    Text { x: f32, baseline: f32, line: ShapedLine, ink: Ink },
    Box { x: f32, y: f32, width: f32, height: f32, ink: Ink },
}

/// The pages so far and where the next line goes.
#[derive(Default)]
pub(super) struct Sheet {
    pages: Vec<Vec<Mark>>,
    pub(super) y: f32,
}

impl Sheet {
    /// Begins with an empty page.
    pub(super) fn new() -> Self {
        Self { pages: vec![Vec::new()], y: MARGIN }
    }

    /// Whether so much more fits on this page.
    pub(super) fn fits(&self, height: f32) -> bool {
        self.y + height <= BOTTOM
    }

    /// Goes on at the top of a new page.
    pub(super) fn turn(&mut self) {
        self.pages.push(Vec::new());
        self.y = MARGIN;
    }

    fn mark(&mut self, mark: Mark) {
        if let Some(page) = self.pages.last_mut() {
            page.push(mark);
        }
    }

    /// Prints a shaped line whose top is at `y`.
    pub(super) fn line(&mut self, x: f32, y: f32, line: ShapedLine, ink: Ink) {
        let baseline = y + line.size * 1.05;
        self.mark(Mark::Text { x, baseline, line, ink });
    }

    /// Prints a text in one line from `x` on.
    pub(super) fn text(&mut self, x: f32, y: f32, text: &str, style: Style) {
        self.line(x, y, shape(text, style.size, style.weight), style.ink);
    }

    /// Prints a text in one line that ends at `right`.
    pub(super) fn text_to(&mut self, right: f32, y: f32, text: &str, style: Style) {
        let line = shape(text, style.size, style.weight);
        self.line(right - line.width, y, line, style.ink);
    }

    /// Prints a text in as many lines as it takes and answers where the next one would go.
    pub(super) fn block(&mut self, x: f32, y: f32, width: f32, text: &str, style: Style) -> f32 {
        let mut y = y;
        for line in wrap(text, style.size, style.weight, width) {
            self.line(x, y, line, style.ink);
            y += style.leading();
        }
        y
    }

    /// Prints a text where the last one ended, over pages if it has to.
    pub(super) fn flow(&mut self, x: f32, width: f32, text: &str, style: Style) {
        for line in wrap(text, style.size, style.weight, width) {
            if !self.fits(style.leading()) {
                self.turn();
            }
            self.line(x, self.y, line, style.ink);
            self.y += style.leading();
        }
    }

    /// A rule across, from `x` to `right`.
    pub(super) fn rule(&mut self, x: f32, right: f32, y: f32, height: f32, ink: Ink) {
        self.mark(Mark::Box { x, y, width: right - x, height, ink });
    }

    /// A shaded box, to be printed before what stands in it.
    pub(super) fn shade(&mut self, x: f32, y: f32, width: f32, height: f32) {
        self.mark(Mark::Box { x, y, width, height, ink: Ink::Shade });
    }

    /// Draws all pages, each with its foot and its number.
    pub(super) fn draw(mut self, pdf: &mut Pdf, footing: &str) -> Option<()> {
        let small = Style::new(7.5, Weight::Regular, Ink::Grey);
        let pages = self.pages.len();
        for page in 1..=pages {
            let number = shape(&format!("{page} / {pages}"), small.size, small.weight);
            let wide = RIGHT - MARGIN - number.width - 20.0;
            let name = wrap(footing, small.size, small.weight, wide).into_iter().next();
            let Some(marks) = self.pages.get_mut(page - 1) else { continue };
            marks.push(Mark::Box {
                x: MARGIN,
                y: FOOT - 14.0,
                width: RIGHT - MARGIN,
                height: 0.4,
                ink: Ink::Faint,
            });
            let x = RIGHT - number.width;
            marks.push(Mark::Text { x, baseline: FOOT, line: number, ink: small.ink });
            if let Some(line) = name {
                marks.push(Mark::Text { x: MARGIN, baseline: FOOT, line, ink: small.ink });
            }
        }
        for marks in &self.pages {
            let mut page = pdf.start_page_with(PageSettings::from_wh(WIDTH, HEIGHT)?);
            let mut surface = page.surface();
            for mark in marks {
                match mark {
                    Mark::Box { x, y, width, height, ink } => {
                        let mut path = PathBuilder::new();
                        path.push_rect(Rect::from_xywh(*x, *y, *width, *height)?);
                        surface.set_fill(Some(ink.fill()));
                        surface.draw_path(&path.finish()?);
                    }
                    Mark::Text { x, baseline, line, ink } => {
                        surface.set_fill(Some(ink.fill()));
                        for (at, piece) in &line.pieces {
                            let font = piece.face.font.clone();
                            let start = Point::from_xy(x + at, *baseline);
                            let (glyphs, text) = (&piece.glyphs, &piece.text);
                            surface.draw_glyphs(start, glyphs, font, text, line.size, false);
                        }
                    }
                }
            }
            surface.finish();
            page.finish();
        }
        Some(())
    }
}
