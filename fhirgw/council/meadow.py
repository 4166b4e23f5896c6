"""`meadow`, the first made-up system of record: normalised, integer keys, short codes, ISO dates.

The tables are declared in the grammar of `fhirgw.council.declare`; the facts are those of `fhirgw.council.facts`.
Longer than a module is: it is data.
"""

from __future__ import annotations

TABLES = """
= organisation: organisation
organisation_id | number           | key:organisation       | the organisation's key
name            | name             | text                   |
kind            | kind             | code:organisation_kind |
ods_code        | ods              | text                   | ODS organisation code
cqc_provider_id | cqc_provider     | text                   | Care Quality Commission provider id
cqc_location_id | cqc_location     | text                   | Care Quality Commission location id
cassr_code      | cassr            | text                   | council with adult social services responsibilities code
parent_id       | parent           | key:organisation       | the organisation it is part of
phone           | phone            | text                   |
email           | email            | text                   |
address_line_1  | address.line_1   | text                   |
town            | address.town     | text                   |
postcode        | address.postcode | text                   |
active          | active           | flag                   |

= team: team
team_id         | number       | key:team         |
organisation_id | organisation | key:organisation |
name            | name         | text             |
kind            | kind         | code:team_kind   |
phone           | phone        | text             |
email           | email        | text             |
active          | active       | flag             |

= location: location
location_id     | number           | key:location       |
organisation_id | organisation     | key:organisation   | who runs it
name            | name             | text               |
kind            | kind             | code:location_kind |
ods_site_code   | ods_site         | text               | ODS site code
cqc_location_id | cqc_location     | text               | Care Quality Commission location id
phone           | phone            | text               |
address_line_1  | address.line_1   | text               |
town            | address.town     | text               |
postcode        | address.postcode | text               |
uprn            | address.uprn     | text               | unique property reference number
active          | active           | flag               |

= worker: worker
worker_id   | number     | key:worker      |
title       | title      | text            |
given_name  | given      | text            |
family_name | family     | text            |
profession  | profession | code:profession |
swe_number  | swe        | text            | Social Work England number (social workers)
hcpc_number | hcpc       | text            | Health and Care Professions Council number (occupational therapists)
sds_user_id | sds        | text            | NHS Spine user id
phone       | phone      | text            |
email       | email      | text            |
active      | active     | flag            |

= worker_role: role
worker_role_id  | number       | key:role         |
worker_id       | worker       | key:worker       |
team_id         | team         | key:team         |
organisation_id | organisation | key:organisation |
post            | post         | code:post        |
start_date      | start        | date             |
end_date        | end          | date             |

= person: person
person_id          | number             | key:person              | the council's number for the person
client_type        | client_type        | code:client_type        |
nhs_number         | nhs_number         | text                    | ten digits, or blank
nhs_number_status  | nhs_status         | code:nhs_status         | blank when the number is
title              | title              | text                    |
given_name         | given              | text                    |
family_name        | family             | text                    |
preferred_name     | preferred          | text                    | the name the person likes to be called by
birth_date         | born               | date                    |
death_date         | died               | date                    |
gender             | gender             | code:gender             |
birth_sex          | birth_sex          | code:birth_sex          |
ethnicity          | ethnicity          | code:ethnicity          |
language           | language           | code:language           |
interpreter        | interpreter        | flag                    | needs an interpreter
marital_status     | marital_status     | code:marital_status     |
religion           | religion           | code:religion           |
gp_organisation_id | practice           | key:organisation        | GP practice
email              | email              | text                    |
contact_preference | contact_preference | code:contact_preference |
restricted         | restricted         | code:restricted         | how freely the record may be shown

= person_address: person each addresses
address_id | #          | serial            |
person_id  | ^number    | parent:person     |
kind       | 0          | code:address_kind | at most one of each kind
line_1     | 1.line_1   | text              |
line_2     | 1.line_2   | text              |
town       | 1.town     | text              |
county     | 1.county   | text              |
postcode   | 1.postcode | text              |
uprn       | 1.uprn     | text              | unique property reference number
start_date | 1.since    | date              |
end_date   | 1.until    | date              |

= person_phone: person each phones
phone_id  | #       | serial          |
person_id | ^number | parent:person   |
kind      | 0       | code:phone_kind | at most one of each kind
number    | 1       | text            |

= accommodation: person each accommodation
accommodation_id | #        | serial             |
person_id        | ^number  | key:person         |
status           | 1.status | code:accommodation |
start_date       | 1.since  | date               |
end_date         | 1.until  | date               |

= employment: person each employment
employment_id | #        | serial          |
person_id     | ^number  | key:person      |
status        | 1.status | code:employment |
start_date    | 1.since  | date            |
end_date      | 1.until  | date            |

= register_entry: register
register_entry_id | number   | key:register  |
person_id         | person   | key:person    |
register          | register | code:register |
start_date        | since    | date          |

= relationship: relationship
relationship_id | number           | key:relationship       |
person_id       | person           | key:person             | the person cared for
carer_person_id | carer            | key:person             | the other, when a person of the council in their own right
role            | role             | code:relationship_role | one row a role
relation        | relation         | code:relation          | what the other is to the person
given_name      | given            | text                   |
family_name     | family           | text                   |
phone           | phone            | text                   |
email           | email            | text                   |
address_line_1  | address.line_1   | text                   |
town            | address.town     | text                   |
postcode        | address.postcode | text                   |
lives_with      | lives_with       | flag                   | lives with the person
caring_hours    | caring_hours     | code:caring_hours      | unpaid carers only
start_date      | since            | date                   |
end_date        | until            | date                   |

= contact: contact
contact_id       | number        | key:contact         |
person_id        | person        | key:person          |
received_at      | received      | moment              | when the contact or referral came in
route            | route         | code:route          | route of access
reason           | reason        | code:contact_reason |
requester        | requester     | code:requester      | who asked
source_id        | source        | key:organisation    | the organisation that asked, if one did
priority         | priority      | code:priority       |
status           | status        | code:contact_status |
hospital_id      | hospital      | key:location        | hospital discharged from
discharge_date   | discharged    | date                | hospital discharge
first_contact_at | first_contact | moment              | when the person was first spoken to
closed_date      | closed        | date                |
outcome          | outcome       | code:outcome        |
worker_id        | worker        | key:worker          |
team_id          | team          | key:team            |

= assessment: assessment
assessment_id  | number    | key:assessment       |
person_id      | person    | key:person           |
contact_id     | contact   | key:contact          | the contact that led to it
kind           | kind      | code:assessment_kind |
term           | term      | code:term            |
method         | method    | code:method          |
status         | status    | code:work_status     |
requested_date | requested | date                 |
started_at     | started   | moment               |
completed_at   | completed | moment               |
updated_at     | updated   | moment               | last changed in the source
worker_id      | worker    | key:worker           |
team_id        | team      | key:team             |
outcome        | outcome   | code:outcome         |
third_party    | third_party | flag               | ticked, or blank: holds what another person said in confidence

= assessment_answer: assessment each answers
answer_id     | #       | serial            |
assessment_id | ^number | parent:assessment |
question      | 0       | text              | question id; at most one answer each
answer        | 1       | code:answer       |

= eligibility_decision: assessment each eligibility
decision_id   | #        | serial           |
assessment_id | ^number  | key:assessment   |
person_id     | ^person  | key:person       |
decision      | decision | code:eligibility |
decided_date  | decided  | date             |
worker_id     | worker   | key:worker       |

= support_reason: support_reason
support_reason_id | number  | key:support_reason  |
person_id         | person  | key:person          |
reason            | reason  | code:support_reason |
is_primary        | primary | flag                |
start_date        | since   | date                |
end_date          | until   | date                |

= plan: plan
plan_id         | number      | key:plan         |
person_id       | person      | key:person       |
assessment_id   | assessment  | key:assessment   |
kind            | kind        | code:plan_kind   |
status          | status      | code:plan_status |
agreed_date     | agreed      | date             |
start_date      | start       | date             |
end_date        | end         | date             |
review_due_date | review_due  | date             |
contingency     | contingency | flag             | has a contingency plan
contingency_plan | contingency_actions | text    | what to do when care fails

= plan_team_member: plan each team
plan_team_member_id | #       | serial         |
plan_id             | ^number | parent:plan    |
role                | 0       | code:team_role | at most one of each role
worker_id           | 1       | key:worker     |

= plan_goal: goal where plan
plan_goal_id | number      | key:goal         | unique across plan_goal and reablement_goal
plan_id      | plan        | key:plan         |
person_id    | person      | key:person       |
domain       | domain      | code:domain      |
description  | description | text             |
importance   | importance  | integer          | 1 to 10, to the person
status       | status      | code:goal_status |
start_date   | start       | date             |
target_date  | target      | date             |
closed_date  | closed      | date             |

= package_line: line
package_line_id   | number     | key:line               |
plan_id           | plan       | key:plan               |
person_id         | person     | key:person             |
service_type      | type       | code:service_type      |
service_component | component  | code:service_component |
provider_id       | provider   | key:organisation       | blank for a direct payment
location_id       | location   | key:location           | the home or day centre, if it is there
delivery          | delivery   | code:delivery          | delivery mechanism
funding           | funding    | code:funding           |
status            | status     | code:line_status       |
start_date        | start      | date                   |
end_date          | end        | date                   |
end_reason        | end_reason | code:end_reason        |
days              | days       | codes:day              | days of the week, space between
times             | times      | times                  | times of day HH:MM:SS, space between
minutes           | minutes    | integer                | minutes a visit
carers            | carers     | integer                | carers required at each visit
hours_per_week    | hours      | decimal                | hours a week

= reablement: reablement
reablement_id  | number      | key:reablement          |
person_id      | person      | key:person              |
contact_id     | contact     | key:contact             |
provider_id    | provider    | key:organisation        |
status         | status      | code:line_status        |
discharge_date | discharged  | date                    | hospital discharge, blank from the community
start_date     | start       | date                    |
due_date       | due         | date                    | planned end
ready_date     | ready       | date                    | ready to exit
end_date       | end         | date                    |
score_start    | score_start | integer                 | independence at start, 0 to 20
score_end      | score_end   | integer                 | independence at end, 0 to 20
outcome        | outcome     | code:reablement_outcome |

= reablement_goal: goal where episode
reablement_goal_id | number      | key:goal         | unique across plan_goal and reablement_goal
reablement_id      | episode     | key:reablement   |
person_id          | person      | key:person       |
domain             | domain      | code:domain      |
description        | description | text             |
importance         | importance  | integer          | 1 to 10, to the person
status             | status      | code:goal_status |
start_date         | start       | date             |
target_date        | target      | date             |
closed_date        | closed      | date             |

= review: review
review_id        | number   | key:review         |
person_id        | person   | key:person         |
plan_id          | plan     | key:plan           |
reason           | reason   | code:review_reason |
method           | method   | code:method        |
status           | status   | code:work_status   |
planned_date     | planned  | date               |
completed_at     | held     | moment             | when it was held
outcome          | outcome  | code:outcome       |
achieved         | achieved | code:achieved      | planned reviews only
next_review_date | next_due | date               |
worker_id        | worker   | key:worker         |
team_id          | team     | key:team           |

= safeguarding_concern: alert where category=safeguarding
concern_id | number   | key:alert           | unique across safeguarding_concern and staff_warning
person_id  | person   | key:person          |
category   | category | code:alert_category |
code       | code     | code:alert_code     |
status     | status   | code:alert_status   |
start_date | start    | date                |
end_date   | end      | date                |
worker_id  | worker   | key:worker          |

= staff_warning: alert where category!=safeguarding
warning_id | number   | key:alert           | unique across safeguarding_concern and staff_warning
person_id  | person   | key:person          |
category   | category | code:alert_category |
code       | code     | code:alert_code     |
status     | status   | code:alert_status   |
start_date | start    | date                |
end_date   | end      | date                |
worker_id  | worker   | key:worker          |

= allergy: allergy
allergy_id    | number      | key:allergy              |
person_id     | person      | key:person               |
substance     | substance   | code:allergy_substance   |
criticality   | criticality | code:allergy_criticality |
reaction      | reaction    | text                     |
status        | status      | code:allergy_status      |
recorded_date | recorded    | date                     |
worker_id     | worker      | key:worker               |

= access_note: access_note
access_note_id | number | key:access_note   |
person_id      | person | key:person        |
kind           | kind   | code:access_kind  |
detail         | detail | text              | where the key safe is, and its code
status         | status | code:alert_status |
start_date     | since  | date              |
end_date       | until  | date              |
worker_id      | worker | key:worker        |

= about_me: about_me
about_me_id | number | key:about_me |
person_id   | person | key:person   |
told_date   | told   | date         | when the person said it

= about_me_answer: about_me each answers
answer_id   | #       | serial          |
about_me_id | ^number | parent:about_me |
heading     | 0       | text            | heading of the national standard; at most one answer each
answer      | 1       | text            |

= equipment: equipment
equipment_id   | number     | key:equipment         |
person_id      | person     | key:person            |
assessment_id  | assessment | key:assessment        |
kind           | kind       | code:equipment_kind   |
status         | status     | code:equipment_status |
requested_date | requested  | date                  |
delivered_date | delivered  | date                  |
returned_date  | returned   | date                  |
supplier_id    | supplier   | key:organisation      |
worker_id      | worker     | key:worker            | who asked for it

= technology_referral: technology
technology_referral_id | number   | key:technology         |
person_id              | person   | key:person             |
contact_id             | contact  | key:contact            |
kind                   | kind     | code:technology_kind   |
status                 | status   | code:technology_status |
referred_date          | referred | date                   |
supplier_id            | supplier | key:organisation       |
worker_id              | worker   | key:worker             | who referred

= technology_device: technology each device
device_id              | #              | serial               |
technology_referral_id | ^number        | key:technology       |
person_id              | ^person        | key:person           |
kind                   | ^kind          | code:technology_kind |
model                  | model          | text                 |
serial_number          | serial         | text                 |
owner_id               | ^supplier      | key:organisation     |
status                 | status         | code:device_status   |
installed_at           | installed      | moment               |
installer_id           | installer      | key:worker           | technician who installed it
removed_date           | removed        | date                 |
removal_reason         | removal_reason | code:removal_reason  |

= consent: consent
consent_id                 | number          | key:consent          |
person_id                  | person          | key:person           |
kind                       | kind            | code:consent_kind    |
scope                      | scope           | code:consent_scope   |
status                     | status          | code:consent_status  |
given_date                 | given           | date                 |
end_date                   | until           | date                 | withdrawn that day, or to be decided anew by then
organisation_id            | organisation    | key:organisation     | to whom, when to one organisation
purpose                    | purpose         | code:consent_purpose | for what; blank: for anything
decided                    | decided         | code:consent_decided | who decided, and as what
decided_by_person_id       | by_person       | key:person           | one of these three is filled
decided_by_relationship_id | by_relationship | key:relationship     |
decided_by_worker_id       | by_worker       | key:worker           |
verified                   | verified        | flag                 | the power to decide for them was seen
worker_id                  | worker          | key:worker           | who recorded it

= consent_record: consent each records
consent_record_id | #       | serial           |
consent_id        | ^number | parent:consent   |
record            | .       | code:record_kind | a kind of record it is about, once each; none: all of them

= consent_exception: consent each exceptions
consent_exception_id | #            | serial            |
consent_id           | ^number      | parent:consent    |
exception_no         | number       | integer           | 1, 2 among those of the consent
kind                 | kind         | code:consent_kind | the opposite of the consent's
organisation_id      | organisation | key:organisation  | for whom, when for one organisation
record               | record       | code:record_kind  | for which kind of record, when for one

= delegate: delegate
delegate_id                | number          | key:delegate         |
person_id                  | person          | key:person           |
relationship_id            | relationship    | key:relationship     | who may act for the person
kind                       | kind            | code:delegate_kind   |
status                     | status          | code:delegate_status |
start_date                 | since           | date                 |
end_date                   | until           | date                 |
granted_by_person_id       | by_person       | key:person           | nominated by the person themself ...
granted_by_organisation_id | by_organisation | key:organisation     | ... or by a court, or under a registered power
verified                   | verified        | flag                 | the order or registration was seen; blank if none
verified_date              | checked         | date                 |
worker_id                  | worker          | key:worker           | who recorded it

= delegate_record: delegate each records
delegate_record_id | #       | serial           |
delegate_id        | ^number | parent:delegate  |
record             | .       | code:record_kind | a kind of record they may see, once each; none: all of them
"""
