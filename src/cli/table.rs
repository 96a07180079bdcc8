//! Tables for people: columns as wide as their widest cell, two spaces between them, and on a terminal lines that fit it.
//!
//! What is too wide is first shortened, the widest column before the others, as far as its least width; then columns are
//! left out. What goes into a file or a pipe is never cut.

use std::io::IsTerminal;

/// A column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    head: &'static str,
    /// How short its cells may be made; those that are as short stay whole.
    least: usize,
    /// Which goes first where there is no room: the highest. Zero: it stays.
    rank: u8,
}

impl Column {
    /// A column that stays, and stays whole as long as others can give way.
    pub(super) const fn new(head: &'static str) -> Column {
        Column { head, least: usize::MAX, rank: 0 }
    }

    /// The same with cells that may be shortened to so many characters.
    pub(super) const fn at_least(self, least: usize) -> Column {
        Column { least, ..self }
    }

    /// The same, to be left out before those of a lower rank.
    pub(super) const fn rank(self, rank: u8) -> Column {
        Column { rank, ..self }
    }
}

const GAP: &str = "  ";

/// How wide standard output is; none where nothing has to fit, since it is no terminal or doesn't say.
pub(super) fn terminal_width() -> Option<usize> {
    let out = std::io::stdout();
    if !out.is_terminal() {
        return None;
    }
    let columns = rustix::termios::tcgetwinsize(out).ok()?.ws_col;
    Some(usize::from(columns)).filter(|columns| *columns > 0)
}

/// The table of some rows, each with a cell for each column, in lines of at most `width` characters. A column that has
/// nothing in any row is left out.
pub(super) fn table<const N: usize>(columns: &[Column; N], rows: &[[String; N]], width: Option<usize>) -> String {
    let length = |text: &str| text.chars().count();
    let has_cells = |at: &usize| rows.iter().any(|row| !row[*at].is_empty());
    let mut kept: Vec<(usize, usize)> = (0..N)
        .filter(has_cells)
        .map(|at| (at, rows.iter().map(|row| length(&row[at])).chain([length(columns[at].head)]).max().unwrap_or(0)))
        .collect();
    if let Some(width) = width {
        fit(columns, &mut kept, width.max(1));
    }
    let head = std::array::from_fn(|at| columns[at].head.to_owned());
    let line = |row: &[String; N]| {
        let cells = kept.iter().map(|(at, width)| format!("{:width$}", shortened(&row[*at], *width)));
        cells.collect::<Vec<_>>().join(GAP).trim_end().to_owned() + "\n"
    };
    [&head].into_iter().chain(rows).map(line).collect()
}

/// Leaves out and narrows columns until their lines fit.
fn fit(columns: &[Column], kept: &mut Vec<(usize, usize)>, width: usize) {
    let total = |widths: &mut dyn Iterator<Item = usize>| {
        let (count, sum) = widths.fold((0, 0), |(count, sum), width| (count + 1, sum + width));
        sum + GAP.len() * usize::saturating_sub(count, 1)
    };
    let least = |(at, width): &(usize, usize)| (*width).min(columns[*at].least);
    while total(&mut kept.iter().map(least)) > width {
        let first = kept.iter().enumerate().max_by_key(|(_, (at, _))| columns[*at].rank);
        match first.filter(|(_, (at, _))| columns[*at].rank > 0) {
            Some((place, _)) => drop(kept.remove(place)),
            None => break,
        }
    }
    // Those that stay give way beyond their least width rather than wrap, and the last of them go with what is left.
    for goes_below in [false, true] {
        while total(&mut kept.iter().map(|(_, width)| *width)) > width {
            let floor = |column: &(usize, usize)| if goes_below { 1 } else { least(column) };
            let can_give = kept.iter().enumerate().filter(|(_, column)| column.1 > floor(column));
            match can_give.max_by_key(|(_, column)| column.1).map(|(place, _)| place) {
                Some(place) => kept[place].1 -= 1,
                None if goes_below && kept.len() > 1 => drop(kept.pop()),
                None => break,
            }
        }
    }
}

/// A text in so many characters, the last of which says that there would be more.
fn shortened(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 5] = [
        Column::new("SERVICE").at_least(8).rank(1),
        Column::new("ID"),
        Column::new("SLOT"),
        Column::new("STATE").at_least(4),
        Column::new("OWNER").at_least(6).rank(2),
    ];

    fn rows() -> [[String; 5]; 2] {
        [
            ["_x._tcp.z.", "i-1", "", "up", "key agents."].map(str::to_owned),
            ["_longer._tcp.z.", "a-long-id", "", "held since noon", "access"].map(str::to_owned),
        ]
    }

    #[test]
    fn columns_are_aligned_and_empty_ones_left_out() {
        assert_eq!(
            table(&COLUMNS, &rows(), None),
            "SERVICE          ID         STATE            OWNER\n\
             _x._tcp.z.       i-1        up               key agents.\n\
             _longer._tcp.z.  a-long-id  held since noon  access\n"
        );
    }

    #[test]
    fn what_is_too_wide_is_shortened_and_then_left_out() {
        assert_eq!(
            table(&COLUMNS, &rows(), Some(42)),
            "SERVICE    ID         STATE      OWNER\n\
             _x._tcp.…  i-1        up         key agen…\n\
             _longer.…  a-long-id  held sin…  access\n"
        );
        assert_eq!(
            table(&COLUMNS, &rows(), Some(32)),
            "SERVICE     ID         STATE\n\
             _x._tcp.z.  i-1        up\n\
             _longer._…  a-long-id  held sin…\n"
        );
        assert_eq!(
            table(&COLUMNS, &rows(), Some(20)),
            "ID         STATE\n\
             i-1        up\n\
             a-long-id  held sin…\n"
        );
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_none_is_cut_that_fits() {
        let whole = table(&COLUMNS, &rows(), None);
        let widest = |text: &str| text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
        for width in 1..=2 * widest(&whole) {
            let text = table(&COLUMNS, &rows(), Some(width));
            assert!(widest(&text) <= width && text.lines().count() == 3, "{width}:\n{text}");
            assert_eq!(text == whole, width >= widest(&whole), "{width}:\n{text}");
        }
    }
}
