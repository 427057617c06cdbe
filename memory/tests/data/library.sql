-- A library with several branches.

CREATE TABLE publisher (
    publisher_id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    country TEXT
);

CREATE TABLE author (
    author_id INTEGER PRIMARY KEY,
    full_name TEXT NOT NULL,
    born_on DATE
);

CREATE TABLE book (
    isbn TEXT PRIMARY KEY,
    title TEXT NOT NULL,
    publisher_id INTEGER REFERENCES publisher,
    printed_in INTEGER,
    pages INTEGER
);

CREATE TABLE book_author (
    isbn TEXT REFERENCES book (isbn),
    author_id INTEGER REFERENCES author (author_id),
    PRIMARY KEY (isbn, author_id)
);

CREATE TABLE branch (
    branch_id INTEGER PRIMARY KEY,
    street TEXT,
    opening_hours TEXT
);

CREATE TABLE copy (
    copy_id INTEGER PRIMARY KEY,
    isbn TEXT REFERENCES book (isbn),
    branch_id INTEGER REFERENCES branch (branch_id),
    shelf TEXT
);

CREATE TABLE member (
    member_id INTEGER PRIMARY KEY,
    full_name TEXT,
    email TEXT,
    joined_on DATE
);

CREATE TABLE loan (
    loan_id INTEGER PRIMARY KEY,
    copy_id INTEGER REFERENCES copy (copy_id),
    member_id INTEGER REFERENCES member (member_id),
    lent_on DATE,
    due_on DATE,
    returned_on DATE
);

CREATE TABLE fine (
    fine_id INTEGER PRIMARY KEY,
    loan_id INTEGER REFERENCES loan (loan_id),
    amount NUMERIC(6,2),
    paid BOOLEAN
);

CREATE TABLE employee (
    employee_id INTEGER PRIMARY KEY,
    branch_id INTEGER REFERENCES branch (branch_id),
    full_name TEXT,
    salary NUMERIC
);

CREATE TABLE event (
    event_id INTEGER PRIMARY KEY,
    branch_id INTEGER REFERENCES branch (branch_id),
    topic TEXT,
    starts_at TIMESTAMP
);
