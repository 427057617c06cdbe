-- A hospital; names as some databases write them.

CREATE TABLE Department (
    DepartmentID INT PRIMARY KEY,
    DepartmentName VARCHAR(80),
    Floor INT
);

CREATE TABLE Doctor (
    DoctorID INT PRIMARY KEY,
    FirstName VARCHAR(40),
    LastName VARCHAR(40),
    Speciality VARCHAR(60),
    DepartmentID INT,
    FOREIGN KEY (DepartmentID) REFERENCES Department(DepartmentID)
);

CREATE TABLE Patient (
    PatientID INT PRIMARY KEY,
    FirstName VARCHAR(40),
    LastName VARCHAR(40),
    DateOfBirth DATE,
    BloodGroup CHAR(3),
    InsuranceNumber VARCHAR(20)
);

CREATE TABLE Appointment (
    AppointmentID INT PRIMARY KEY,
    PatientID INT REFERENCES Patient(PatientID),
    DoctorID INT REFERENCES Doctor(DoctorID),
    ScheduledAt TIMESTAMP,
    Reason TEXT
);

CREATE TABLE Ward (
    WardID INT PRIMARY KEY,
    WardName VARCHAR(40),
    Beds INT
);

CREATE TABLE Admission (
    AdmissionID INT PRIMARY KEY,
    PatientID INT REFERENCES Patient(PatientID),
    WardID INT REFERENCES Ward(WardID),
    AdmittedAt TIMESTAMP,
    DischargedAt TIMESTAMP
);

CREATE TABLE Medication (
    MedicationID INT PRIMARY KEY,
    TradeName VARCHAR(60),
    Ingredient VARCHAR(60)
);

CREATE TABLE Prescription (
    PrescriptionID INT PRIMARY KEY,
    PatientID INT REFERENCES Patient(PatientID),
    DoctorID INT REFERENCES Doctor(DoctorID),
    MedicationID INT REFERENCES Medication(MedicationID),
    Dose VARCHAR(40),
    PrescribedAt DATE
);

CREATE TABLE LabResult (
    ResultID INT PRIMARY KEY,
    PatientID INT REFERENCES Patient(PatientID),
    TestName VARCHAR(60),
    Value NUMERIC,
    TakenAt TIMESTAMP
);

CREATE TABLE Invoice (
    InvoiceID INT PRIMARY KEY,
    PatientID INT REFERENCES Patient(PatientID),
    Total NUMERIC(10,2),
    DueDate DATE,
    PaidAt DATE
);

CREATE TABLE ParkingPermit (
    PermitID INT PRIMARY KEY,
    Plate VARCHAR(12),
    ValidUntil DATE
);
