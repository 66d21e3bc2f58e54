"""Writes the workbooks of programs.test.ts into the folder that is given."""

import sys
from datetime import date, datetime, time, timedelta
from pathlib import Path

import openpyxl
import xlsxwriter
from openpyxl.chart import BarChart, Reference
from openpyxl.comments import Comment
from openpyxl.utils.datetime import CALENDAR_MAC_1904
from openpyxl.worksheet.table import Table

folder = Path(sys.argv[1])
header = ["text", "number", "flag", "day", "moment", "hour", "span"]
row = [
    "R&D <b> \u6771\u4eac \U0001f600",
    0.1,
    True,
    date(2024, 2, 21),
    datetime(2024, 2, 21, 9, 30),
    time(12, 0),
    timedelta(hours=36),
]


def with_openpyxl(name, epoch=None, iso_dates=False):
    book = openpyxl.Workbook()
    book.iso_dates = iso_dates
    if epoch is not None:
        book.epoch = epoch
    sheet = book.active
    sheet.title = "History"
    sheet.append(header)
    sheet.append(row)
    sheet["G2"].number_format = "[h]:mm:ss"
    sheet["A2"].comment = Comment("a comment", "an author")
    sheet.add_table(Table(displayName="Rows", ref="A1:G2"))
    chart = BarChart()
    chart.add_data(Reference(sheet, min_col=2, min_row=1, max_row=2), titles_from_data=True)
    sheet.add_chart(chart, "J2")
    book.create_chartsheet("Chart").add_chart(BarChart())
    hidden = book.create_sheet("Hidden")
    hidden.sheet_state = "hidden"
    hidden.append(["merged", "other"])
    hidden.append(["once", False])
    hidden.merge_cells("A2:A4")
    book.save(folder / name)


def with_xlsxwriter(name, **options):
    book = xlsxwriter.Workbook(folder / name, options)
    sheet = book.add_worksheet("Orders")
    formats = [None, None, None, "yyyy-mm-dd", "yyyy-mm-dd hh:mm", "hh:mm", "[h]:mm:ss"]
    sheet.write_row(0, 0, header)
    for column, (value, code) in enumerate(zip(row, formats)):
        sheet.write(1, column, value, book.add_format({"num_format": code}) if code else None)
    sheet.write_comment("A2", "a comment")
    sheet.add_table("A1:G2", {"columns": [{"header": one} for one in header]})
    chart = book.add_chart({"type": "column"})
    chart.add_series({"values": "=Orders!$B$2:$B$2"})
    sheet.insert_chart("J2", chart)
    more = book.add_worksheet("More")
    more.very_hidden() if hasattr(more, "very_hidden") else more.hide()
    more.write_row(0, 0, ["sum", "rich", "link", "merged", "km"])
    more.write_formula("A2", "=1+2", None, 3)
    more.write_rich_string("B2", "plain ", book.add_format({"bold": True}), "bold")
    more.write_url("C2", "https://example.com/?a=1&b=2", string="a link")
    more.merge_range("D2:D4", 7)
    more.write("E2", 12.5, book.add_format({"num_format": r"0.0\ \k\m"}))
    book.add_chartsheet("Chart")
    book.close()


def with_one_cell(name, write):
    book = xlsxwriter.Workbook(folder / name)
    sheet = book.add_worksheet("S")
    sheet.write("A1", "a")
    write(sheet)
    book.close()


with_openpyxl("openpyxl.xlsx")
with_openpyxl("openpyxl-1904.xlsx", epoch=CALENDAR_MAC_1904)
with_openpyxl("openpyxl-iso.xlsx", iso_dates=True)
with_xlsxwriter("xlsxwriter.xlsx")
with_xlsxwriter("xlsxwriter-1904.xlsx", date_1904=True)
with_xlsxwriter("xlsxwriter-zip64.xlsx", use_zip64=True, constant_memory=False)
with_one_cell("not-calculated.xlsx", lambda sheet: sheet.write_formula("A2", "=1+2"))
with_one_cell("error.xlsx", lambda sheet: sheet.write_formula("A2", "=NA()", None, "#N/A"))
