-- A market for used cars.

CREATE TABLE city (
    city_id INTEGER PRIMARY KEY,
    name VARCHAR(100) NOT NULL,
    latitude NUMERIC(9, 6) NOT NULL,
    longitude NUMERIC(9, 6) NOT NULL
);

CREATE TABLE users (
    user_id INTEGER PRIMARY KEY,
    name VARCHAR(100) NOT NULL,
    phone VARCHAR(20) NOT NULL UNIQUE,
    city_id INTEGER NOT NULL REFERENCES city (city_id)
);

CREATE TABLE car (
    car_id INTEGER PRIMARY KEY,
    brand VARCHAR(50) NOT NULL,
    model VARCHAR(50) NOT NULL,
    body_type VARCHAR(30) NOT NULL,
    transmission VARCHAR(10) NOT NULL,
    year INTEGER NOT NULL,
    mileage_km INTEGER,
    price NUMERIC(12, 2) NOT NULL
);

CREATE TABLE advertisement (
    advertisement_id INTEGER PRIMARY KEY,
    car_id INTEGER NOT NULL REFERENCES car (car_id),
    user_id INTEGER NOT NULL REFERENCES users (user_id),
    title VARCHAR(200) NOT NULL,
    description TEXT,
    negotiable BOOLEAN NOT NULL,
    posted_at TIMESTAMP NOT NULL
);

CREATE TABLE bid (
    bid_id INTEGER PRIMARY KEY,
    advertisement_id INTEGER NOT NULL REFERENCES advertisement (advertisement_id),
    user_id INTEGER NOT NULL REFERENCES users (user_id),
    amount NUMERIC(12, 2) NOT NULL,
    status VARCHAR(10) NOT NULL,
    bid_at TIMESTAMP NOT NULL
);

CREATE TABLE dealer_review (
    review_id INTEGER PRIMARY KEY,
    user_id INTEGER NOT NULL REFERENCES users (user_id),
    stars INTEGER NOT NULL,
    comment TEXT
);

CREATE TABLE payment (
    payment_id INTEGER PRIMARY KEY,
    user_id INTEGER NOT NULL REFERENCES users (user_id),
    method VARCHAR(20) NOT NULL,
    paid_at TIMESTAMP NOT NULL
);

CREATE TABLE newsletter (
    newsletter_id INTEGER PRIMARY KEY,
    subject VARCHAR(200) NOT NULL,
    sent_at TIMESTAMP NOT NULL
);
