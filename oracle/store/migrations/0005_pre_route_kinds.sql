-- The kind of identifier that a route was made for.  Until now a route knew its party id type only, so a route made for
-- CLABE answered every ACCOUNT_ID that begins with its prefix.
--
-- The old program can run beside this: it inserts routes without a kind, and the trigger derives one by the rule below.
-- It still answers by the prefix alone, until the last old process has ended.
--
-- Rules of any table size: the column is filled by one rewrite, without an event, because a rule of its party id type
-- answers as before.  An event of the time before has no kind; it means the party id type (oracle/store/history.py).

ALTER TABLE routes ADD COLUMN kind text COLLATE "C";
ALTER TABLE routes ALTER COLUMN kind TYPE text COLLATE "C" USING party_id_type::text;
ALTER TABLE routes ALTER COLUMN kind SET NOT NULL;
ALTER TABLE routes ADD CONSTRAINT routes_kind CHECK (kind ~ '^[A-Z][A-Z_]{0,31}$');

-- The kind of a route that was written without one.  An ACCOUNT_ID prefix that is exactly the code of a Mexican bank was
-- made for CLABE; a PERSONAL_ID prefix in the canonical form of an NRC, with its township, was made for NRC.  A longer
-- prefix of a bank and a state alone (12-) can be either: `oracle route doubtful` shows them to a person.
-- The codes are those of oracle/identifiers/data/clabe_institutions.csv when this migration was written.
CREATE FUNCTION route_kind(party_id_type party_id_type, prefix text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN party_id_type = 'ACCOUNT_ID' AND prefix = ANY ('{
            001, 002, 006, 009, 012, 014, 019, 021, 022, 030, 032, 036, 037, 042, 044, 058, 059, 060, 062,
            072, 102, 103, 106, 108, 110, 112, 113, 116, 124, 126, 127, 128, 129, 130, 131, 132, 133, 134,
            135, 136, 137, 138, 139, 140, 141, 143, 145, 147, 148, 150, 151, 152, 154, 155, 156, 157, 158,
            159, 160, 166, 167, 168, 600, 601, 602, 604, 605, 606, 607, 608, 610, 611, 613, 614, 615, 616,
            617, 618, 619, 620, 621, 622, 623, 624, 626, 627, 628, 629, 630, 631, 632, 633, 634, 636, 637,
            638, 640, 642, 646, 647, 648, 649, 651, 652, 653, 655, 656, 659, 661, 670, 674, 677, 679, 680,
            683, 684, 685, 686, 688, 689, 699, 703, 706, 710, 714, 715, 720, 721, 722, 723, 725, 727, 728,
            729, 730, 732, 734, 738, 812, 814, 821, 846, 901, 902, 903
        }'::text[]) THEN 'CLABE'
        WHEN party_id_type = 'PERSONAL_ID' AND prefix ~
            '^([1-9]|1[0-4])-((?!09)([01][0-9A-F]|2[015])){3}-([NEPTYS]-[0-9]{0,5})?$' THEN 'NRC'
        ELSE party_id_type::text
    END
$$;

CREATE FUNCTION routes_kind() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.kind := route_kind(NEW.party_id_type, NEW.prefix);
    RETURN NEW;
END $$;
CREATE TRIGGER routes_kind_inserted BEFORE INSERT ON routes FOR EACH ROW WHEN (NEW.kind IS NULL)
    EXECUTE FUNCTION routes_kind();
-- A kind belongs to one party id type.
CREATE TRIGGER routes_kind_updated BEFORE UPDATE ON routes FOR EACH ROW
    WHEN (NEW.party_id_type <> OLD.party_id_type AND NEW.kind = OLD.kind)
    EXECUTE FUNCTION routes_kind();

-- Rules of two kinds can share a prefix: an identifier that is of the narrower kind is answered by that kind's rule.
CREATE OR REPLACE FUNCTION refuse_route_overlaps(written bigint[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM routes n JOIN routes r USING (party_id_type, kind, prefix)
               WHERE n.route_id = ANY (written) AND n.route_id <> r.route_id
                 AND n.valid_from < r.valid_to AND r.valid_from < n.valid_to) THEN
        RAISE EXCEPTION 'another route has this prefix at that time' USING ERRCODE = 'OR005';
    END IF;
    UPDATE cache_generation SET routes_version = routes_version + 1;
END $$;

-- Each of these changes is an event, so that history shows when the rule began to answer its kind only.  A rule that has
-- ended stays as it was.
SELECT set_config('oracle.reason', 'migration 0005: a route answers the kind that it was made for', true);
UPDATE routes SET kind = route_kind(party_id_type, prefix)
WHERE kind <> route_kind(party_id_type, prefix) AND valid_to > now();
SELECT set_config('oracle.reason', '', true);
