//! The lines of a document: a table whose head is on every page that it reaches.

use crate::billing::{
    document::{Document, Line},
    export::pdf::{
        figures::{money, number, span, tax},
        fonts::Weight,
        sheet::{Ink, MARGIN, RIGHT, Sheet, Style},
        text::{ShapedLine, wrap},
    },
};

const HEAD: Style = Style::new(8.0, Weight::Bold, Ink::Grey);
const CELL: Style = Style::new(8.5, Weight::Regular, Ink::Black);
const SMALL: Style = Style::new(7.5, Weight::Regular, Ink::Grey);

/// Where columns begin, or end if their figures stand right.
const WORDS: f32 = MARGIN + 22.0;
const WORDS_WIDTH: f32 = 204.0;
const QUANTITY: f32 = 348.0;
const PRICE: f32 = 428.0;
const TAX: f32 = 480.0;
/// The space between two rows.
const ROW_GAP: f32 = 5.0;

/// Prints the table.
pub(super) fn lines(sheet: &mut Sheet, document: &Document) {
    head(sheet, document);
    for line in &document.lines {
        let (words, detail) = words(line);
        let height = CELL.leading() * count(&words) + SMALL.leading() * count(&detail);
        if !sheet.fits(height + ROW_GAP) {
            sheet.turn();
            head(sheet, document);
        }
        row(sheet, document, line, words, detail);
    }
    sheet.rule(MARGIN, RIGHT, sheet.y, 0.5, Ink::Grey);
}

fn head(sheet: &mut Sheet, document: &Document) {
    let y = sheet.y;
    sheet.text(MARGIN, y, "#", HEAD);
    sheet.text(WORDS, y, "Description", HEAD);
    sheet.text_to(QUANTITY, y, "Quantity", HEAD);
    sheet.text_to(PRICE, y, "Price", HEAD);
    sheet.text_to(TAX, y, "Tax", HEAD);
    sheet.text_to(RIGHT, y, &format!("Net {}", document.currency.code()), HEAD);
    sheet.y += HEAD.leading() + 1.0;
    sheet.rule(MARGIN, RIGHT, sheet.y, 0.8, Ink::Grey);
    sheet.y += ROW_GAP;
}

/// What was supplied, and below it when and how its price came about.
fn words(line: &Line) -> (Vec<ShapedLine>, Vec<ShapedLine>) {
    let mut details: Vec<String> = line.service_days.map(span).into_iter().collect();
    if let Some(list) = line.list_price {
        let list = number(list);
        details.push(match line.discount_percent {
            Some(percent) => format!("list price {list}, discount {}%", percent.normalize()),
            None => format!("list price {list}"),
        });
    }
    (
        wrap(&line.description, CELL.size, CELL.weight, WORDS_WIDTH),
        wrap(&details.join(" · "), SMALL.size, SMALL.weight, WORDS_WIDTH),
    )
}

fn row(
    sheet: &mut Sheet,
    document: &Document,
    line: &Line,
    words: Vec<ShapedLine>,
    detail: Vec<ShapedLine>,
) {
    let y = sheet.y;
    let price = number(line.price);
    let price = match line.class.base_quantity() {
        1 => price,
        _ => format!("{price} / 1M"),
    };
    sheet.text(MARGIN, y, &line.position.to_string(), CELL);
    sheet.text_to(QUANTITY, y, &number(line.quantity), CELL);
    sheet.text_to(PRICE, y, &price, CELL);
    sheet.text_to(TAX, y, &tax(&line.tax), CELL);
    sheet.text_to(RIGHT, y, &money(line.net, document), CELL);
    for (lines, style) in [(words, CELL), (detail, SMALL)] {
        for line in lines {
            sheet.line(WORDS, sheet.y, line, style.ink);
            sheet.y += style.leading();
        }
    }
    sheet.y += ROW_GAP;
}

fn count(lines: &[ShapedLine]) -> f32 {
    f32::from(u16::try_from(lines.len()).unwrap_or(u16::MAX))
}
