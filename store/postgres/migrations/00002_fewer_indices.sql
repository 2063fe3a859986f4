-- +goose Up
-- Ids grow with time: the oldest job that waits is found along the index of jobs by state, and each new job writes one index less.
DROP INDEX jobs_by_age;
