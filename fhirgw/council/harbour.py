"""`harbour`, the second made-up system of record: few and wide tables, text keys, English labels, dd/mm/yyyy.

The tables are declared in the grammar of `fhirgw.council.declare`; the facts are those of `fhirgw.council.facts`.
Longer than a module is: it is data.
"""

from __future__ import annotations

from fhirgw.council.questions import QUESTIONS

_ANSWERS = "\n".join(f"{q.column} | answers.{q.id} | code:answer | {q.id}: {q.text}" for q in QUESTIONS)

TABLES = f"""
= ORGANISATION: organisation
ORG_NO        | number           | key:organisation       | the organisation's key
ORG_NAME      | name             | text                   |
ORG_TYPE      | kind             | code:organisation_kind |
ODS_CODE      | ods              | text                   | ODS organisation code
CQC_PROVIDER  | cqc_provider     | text                   | Care Quality Commission provider id
CQC_LOCATION  | cqc_location     | text                   | Care Quality Commission location id
CASSR_CODE    | cassr            | text                   | council with adult social services responsibilities code
PARENT_ORG_NO | parent           | key:organisation       | the organisation it is part of
TELEPHONE     | phone            | text                   |
EMAIL         | email            | text                   |
ADDR_1        | address.line_1   | text                   |
ADDR_2        | address.town     | text                   |
POSTCODE      | address.postcode | text                   |
IN_USE        | active           | flag                   |

= TEAM: team
TEAM_NO   | number       | key:team         |
ORG_NO    | organisation | key:organisation |
TEAM_NAME | name         | text             |
TEAM_TYPE | kind         | code:team_kind   |
TELEPHONE | phone        | text             |
EMAIL     | email        | text             |
IN_USE    | active       | flag             |

= PREMISES: location
PREMISES_NO   | number           | key:location       |
ORG_NO        | organisation     | key:organisation   | who runs it
PREMISES_NAME | name             | text               |
PREMISES_TYPE | kind             | code:location_kind |
ODS_SITE      | ods_site         | text               | ODS site code
CQC_LOCATION  | cqc_location     | text               | Care Quality Commission location id
TELEPHONE     | phone            | text               |
ADDR_1        | address.line_1   | text               |
ADDR_2        | address.town     | text               |
POSTCODE      | address.postcode | text               |
UPRN          | address.uprn     | text               | unique property reference number
IN_USE        | active           | flag               |

= STAFF: worker
STAFF_NO   | number     | key:worker      |
TITLE      | title      | text            |
FORENAME   | given      | text            |
SURNAME    | family     | text            |
PROFESSION | profession | code:profession |
SWE_NO     | swe        | text            | Social Work England number (social workers)
HCPC_NO    | hcpc       | text            | Health and Care Professions Council number (occupational therapists)
SDS_USER   | sds        | text            | NHS Spine user id
TELEPHONE  | phone      | text            |
EMAIL      | email      | text            |
IN_USE     | active     | flag            |

= STAFF_POST: role
POST_NO    | number       | key:role         |
STAFF_NO   | worker       | key:worker       |
TEAM_NO    | team         | key:team         |
ORG_NO     | organisation | key:organisation |
POST_TITLE | post         | code:post        |
DATE_FROM  | start        | date             |
DATE_TO    | end          | date             |

= PERSON: person
PERSON_NO         | number                        | key:person              | the council's number for the person
PERSON_TYPE       | client_type                   | code:client_type        |
NHS_NO            | nhs_number                    | text                    | ten digits, or blank
NHS_NO_STATUS     | nhs_status                    | code:nhs_status         | blank when the number is
TITLE             | title                         | text                    |
FORENAME          | given                         | text                    |
SURNAME           | family                        | text                    |
KNOWN_AS          | preferred                     | text                    | the name the person likes to be called by
DATE_OF_BIRTH     | born                          | date                    |
DATE_OF_DEATH     | died                          | date                    |
GENDER            | gender                        | code:gender             |
SEX_AT_BIRTH      | birth_sex                     | code:birth_sex          |
ETHNICITY         | ethnicity                     | code:ethnicity          |
FIRST_LANGUAGE    | language                      | code:language           |
INTERPRETER       | interpreter                   | flag                    | needs an interpreter
MARITAL_STATUS    | marital_status                | code:marital_status     |
RELIGION          | religion                      | code:religion           |
GP_ORG_NO         | practice                      | key:organisation        | GP practice
EMAIL             | email                         | text                    |
PREFERRED_CONTACT | contact_preference            | code:contact_preference |
RESTRICTED        | restricted                    | code:restricted         | how freely the record may be shown
PHONE_HOME        | phones.home                   | text                    |
PHONE_MOBILE      | phones.mobile                 | text                    |
ADDR_1            | addresses.home.line_1         | text                    | home
ADDR_2            | addresses.home.line_2         | text                    |
ADDR_3            | addresses.home.town           | text                    | town
ADDR_4            | addresses.home.county         | text                    | county
POSTCODE          | addresses.home.postcode       | text                    |
UPRN              | addresses.home.uprn           | text                    | unique property reference number
ADDR_FROM         | addresses.home.since          | date                    |
ADDR_TO           | addresses.home.until          | date                    |
PREV_ADDR_1       | addresses.previous.line_1     | text                    | previous home, if known
PREV_ADDR_2       | addresses.previous.line_2     | text                    |
PREV_ADDR_3       | addresses.previous.town       | text                    | town
PREV_ADDR_4       | addresses.previous.county     | text                    | county
PREV_POSTCODE     | addresses.previous.postcode   | text                    |
PREV_UPRN         | addresses.previous.uprn       | text                    |
PREV_ADDR_FROM    | addresses.previous.since      | date                    |
PREV_ADDR_TO      | addresses.previous.until      | date                    |
ACCOM_STATUS      | accommodation.current.status  | code:accommodation      | accommodation now
ACCOM_FROM        | accommodation.current.since   | date                    |
ACCOM_TO          | accommodation.current.until   | date                    |
PREV_ACCOM_STATUS | accommodation.previous.status | code:accommodation      | accommodation before that, if known
PREV_ACCOM_FROM   | accommodation.previous.since  | date                    |
PREV_ACCOM_TO     | accommodation.previous.until  | date                    |
WORK_STATUS       | employment.current.status     | code:employment         | employment now, if recorded
WORK_FROM         | employment.current.since      | date                    |
WORK_TO           | employment.current.until      | date                    |
PREV_WORK_STATUS  | employment.previous.status    | code:employment         | employment before that, if known
PREV_WORK_FROM    | employment.previous.since     | date                    |
PREV_WORK_TO      | employment.previous.until     | date                    |

= REGISTER: register
REGISTER_NO   | number   | key:register  |
PERSON_NO     | person   | key:person    |
REGISTERED_AS | register | code:register |
DATE_FROM     | since    | date          |

= RELATION: relationship
RELATION_NO     | number           | key:relationship       |
PERSON_NO       | person           | key:person             | the person cared for
CARER_PERSON_NO | carer            | key:person             | the other, when a person of the council in their own right
ROLE            | role             | code:relationship_role | one row a role
RELATIONSHIP    | relation         | code:relation          | what the other is to the person
FORENAME        | given            | text                   |
SURNAME         | family           | text                   |
TELEPHONE       | phone            | text                   |
EMAIL           | email            | text                   |
ADDR_1          | address.line_1   | text                   |
ADDR_2          | address.town     | text                   |
POSTCODE        | address.postcode | text                   |
SAME_HOUSEHOLD  | lives_with       | flag                   | lives with the person
HOURS_CARING    | caring_hours     | code:caring_hours      | unpaid carers only
DATE_FROM       | since            | date                   |
DATE_TO         | until            | date                   |

= REFERRAL: contact
REFERRAL_NO     | number        | key:contact         |
PERSON_NO       | person        | key:person          |
RECEIVED        | received      | moment              | when the contact or referral came in
ROUTE           | route         | code:route          | route of access
REASON          | reason        | code:contact_reason |
REFERRED_BY     | requester     | code:requester      | who asked
REFERRED_BY_ORG | source        | key:organisation    | the organisation that asked, if one did
PRIORITY        | priority      | code:priority       |
STATUS          | status        | code:contact_status |
HOSPITAL_NO     | hospital      | key:location        | hospital discharged from
DISCHARGED      | discharged    | date                | hospital discharge
FIRST_SPOKEN    | first_contact | moment              | when the person was first spoken to
CLOSED          | closed        | date                |
OUTCOME         | outcome       | code:outcome        |
STAFF_NO        | worker        | key:worker          |
TEAM_NO         | team          | key:team            |

= ASSESSMENT: assessment
ASSESSMENT_NO        | number                 | key:assessment       |
PERSON_NO            | person                 | key:person           |
REFERRAL_NO          | contact                | key:contact          | the contact that led to it
ASSESSMENT_TYPE      | kind                   | code:assessment_kind |
TERM                 | term                   | code:term            |
METHOD               | method                 | code:method          |
STATUS               | status                 | code:work_status     |
REQUESTED            | requested              | date                 |
STARTED              | started                | moment               |
COMPLETED            | completed              | moment               |
LAST_CHANGED         | updated                | moment               | last changed in the source
STAFF_NO             | worker                 | key:worker           |
TEAM_NO              | team                   | key:team             |
OUTCOME              | outcome                | code:outcome         |
ELIGIBILITY          | eligibility.0.decision | code:eligibility     | the eligibility decision, if made
ELIGIBILITY_DATE     | eligibility.0.decided  | date                 |
ELIGIBILITY_STAFF_NO | eligibility.0.worker   | key:worker           |
IN_CONFIDENCE        | third_party            | flag                 | Yes or blank: tells what others said in secret
{_ANSWERS}

= SUPPORT_REASON: support_reason
SUPPORT_REASON_NO | number  | key:support_reason  |
PERSON_NO         | person  | key:person          |
REASON            | reason  | code:support_reason |
IS_PRIMARY        | primary | flag                |
DATE_FROM         | since   | date                |
DATE_TO           | until   | date                |

= CARE_PLAN: plan
PLAN_NO          | number         | key:plan         |
PERSON_NO        | person         | key:person       |
ASSESSMENT_NO    | assessment     | key:assessment   |
PLAN_TYPE        | kind           | code:plan_kind   |
STATUS           | status         | code:plan_status |
AGREED           | agreed         | date             |
DATE_FROM        | start          | date             |
DATE_TO          | end            | date             |
REVIEW_DUE       | review_due     | date             |
CONTINGENCY      | contingency    | flag             | has a contingency plan
CONTINGENCY_PLAN | contingency_actions | text        | what to do when care fails
LEAD_STAFF_NO    | team.lead      | key:worker       | the plan's team: lead worker
OT_STAFF_NO      | team.therapist | key:worker       | occupational therapist
SUPPORT_STAFF_NO | team.support   | key:worker       | support worker

= REABLEMENT: reablement
REABLEMENT_NO   | number      | key:reablement          |
PERSON_NO       | person      | key:person              |
REFERRAL_NO     | contact     | key:contact             |
PROVIDER_ORG_NO | provider    | key:organisation        |
STATUS          | status      | code:line_status        |
DISCHARGED      | discharged  | date                    | hospital discharge, blank from the community
DATE_FROM       | start       | date                    |
DATE_DUE        | due         | date                    | planned end
DATE_READY      | ready       | date                    | ready to exit
DATE_TO         | end         | date                    |
SCORE_START     | score_start | integer                 | independence at start, 0 to 20
SCORE_END       | score_end   | integer                 | independence at end, 0 to 20
OUTCOME         | outcome     | code:reablement_outcome |

= GOAL: goal
GOAL_NO       | number      | key:goal         |
PLAN_NO       | plan        | key:plan         | a plan's goal ...
REABLEMENT_NO | episode     | key:reablement   | ... or a reablement episode's, never both
PERSON_NO     | person      | key:person       |
DOMAIN        | domain      | code:domain      |
DESCRIPTION   | description | text             |
IMPORTANCE    | importance  | integer          | 1 to 10, to the person
STATUS        | status      | code:goal_status |
DATE_FROM     | start       | date             |
TARGET_DATE   | target      | date             |
DATE_CLOSED   | closed      | date             |

= PACKAGE: line
PACKAGE_NO      | number     | key:line               |
PLAN_NO         | plan       | key:plan               |
PERSON_NO       | person     | key:person             |
SERVICE_TYPE    | type       | code:service_type      |
SERVICE         | component  | code:service_component |
PROVIDER_ORG_NO | provider   | key:organisation       | blank for a direct payment
PREMISES_NO     | location   | key:location           | the home or day centre, if it is there
DELIVERY        | delivery   | code:delivery          | delivery mechanism
FUNDING         | funding    | code:funding           |
STATUS          | status     | code:line_status       |
DATE_FROM       | start      | date                   |
DATE_TO         | end        | date                   |
END_REASON      | end_reason | code:end_reason        |
DAYS            | days       | codes:day              | days of the week, comma and space between
TIME_1          | times.0    | time                   | time of day of the first visit, HH:MM
TIME_2          | times.1    | time                   |
TIME_3          | times.2    | time                   |
TIME_4          | times.3    | time                   |
MINUTES         | minutes    | integer                | minutes a visit
CARERS          | carers     | integer                | carers required at each visit
WEEKLY_HOURS    | hours      | decimal                | hours a week

= REVIEW: review
REVIEW_NO   | number   | key:review         |
PERSON_NO   | person   | key:person         |
PLAN_NO     | plan     | key:plan           |
REASON      | reason   | code:review_reason |
METHOD      | method   | code:method        |
STATUS      | status   | code:work_status   |
PLANNED     | planned  | date               |
HELD        | held     | moment             | when it was held
OUTCOME     | outcome  | code:outcome       |
ACHIEVED    | achieved | code:achieved      | planned reviews only
NEXT_REVIEW | next_due | date               |
STAFF_NO    | worker   | key:worker         |
TEAM_NO     | team     | key:team           |

= ALERT: alert
ALERT_NO  | number   | key:alert           | safeguarding concerns and warnings to staff alike
PERSON_NO | person   | key:person          |
CATEGORY  | category | code:alert_category |
CODE      | code     | code:alert_code     |
STATUS    | status   | code:alert_status   |
DATE_FROM | start    | date                |
DATE_TO   | end      | date                |
STAFF_NO  | worker   | key:worker          |

= ALLERGY: allergy
ALLERGY_NO  | number      | key:allergy              |
PERSON_NO   | person      | key:person               |
ALLERGIC_TO | substance   | code:allergy_substance   |
RISK        | criticality | code:allergy_criticality |
REACTION    | reaction    | text                     |
STATUS      | status      | code:allergy_status      |
RECORDED    | recorded    | date                     |
STAFF_NO    | worker      | key:worker               |

= ACCESS: access_note
ACCESS_NO | number | key:access_note   |
PERSON_NO | person | key:person        |
ACCESS_BY | kind   | code:access_kind  |
DETAIL    | detail | text              | where the key safe is, and its code
STATUS    | status | code:alert_status |
DATE_FROM | since  | date              |
DATE_TO   | until  | date              |
STAFF_NO  | worker | key:worker        |

= ABOUT_ME: about_me
ABOUT_ME_NO   | number                | key:about_me |
PERSON_NO     | person                | key:person   |
TOLD          | told                  | date         | when the person said it
MATTERS       | answers.matters       | text         | what is most important to me
PEOPLE        | answers.people        | text         | people who are important to me
COMMUNICATION | answers.communication | text         | how I communicate, and how to communicate with me
WELLNESS      | answers.wellness      | text         | my wellness
DO_DO_NOT     | answers.do-and-do-not | text         | please do, and please don't
SUPPORT       | answers.support       | text         | how and when to support me
ALSO          | answers.also          | text         | also worth knowing about me

= EQUIPMENT: equipment
EQUIPMENT_NO    | number     | key:equipment         |
PERSON_NO       | person     | key:person            |
ASSESSMENT_NO   | assessment | key:assessment        |
ITEM            | kind       | code:equipment_kind   |
STATUS          | status     | code:equipment_status |
REQUESTED       | requested  | date                  |
DELIVERED       | delivered  | date                  |
RETURNED        | returned   | date                  |
SUPPLIER_ORG_NO | supplier   | key:organisation      |
STAFF_NO        | worker     | key:worker            | who asked for it

= TELECARE: technology
TELECARE_NO        | number                  | key:technology         |
PERSON_NO          | person                  | key:person             |
REFERRAL_NO        | contact                 | key:contact            |
ITEM               | kind                    | code:technology_kind   |
STATUS             | status                  | code:technology_status |
REFERRED           | referred                | date                   |
SUPPLIER_ORG_NO    | supplier                | key:organisation       |
STAFF_NO           | worker                  | key:worker             | who referred
MODEL              | device.0.model          | text                   | the device, blank until installed
SERIAL_NO          | device.0.serial         | text                   |
DEVICE_STATUS      | device.0.status         | code:device_status     |
INSTALLED          | device.0.installed      | moment                 |
INSTALLER_STAFF_NO | device.0.installer      | key:worker             | technician who installed it
REMOVED            | device.0.removed        | date                   |
REMOVAL_REASON     | device.0.removal_reason | code:removal_reason    |

= CONSENT: consent
CONSENT_NO          | number                    | key:consent          |
PERSON_NO           | person                    | key:person           |
KIND                | kind                      | code:consent_kind    |
SCOPE               | scope                     | code:consent_scope   |
STATUS              | status                    | code:consent_status  |
GIVEN               | given                     | date                 |
ENDS                | until                     | date                 | withdrawn, or to be decided anew by then
TO_ORG_NO           | organisation              | key:organisation     | to whom, when to one organisation
PURPOSE             | purpose                   | code:consent_purpose | for what; blank: for anything
RECORD_1            | records.0                 | code:record_kind     | kinds of record it is about; blank: all of them
RECORD_2            | records.1                 | code:record_kind     |
RECORD_3            | records.2                 | code:record_kind     |
DECIDED_AS          | decided                   | code:consent_decided | who decided, and as what
DECIDER_PERSON_NO   | by_person                 | key:person           | one of these three is filled
DECIDER_RELATION_NO | by_relationship           | key:relationship     |
DECIDER_STAFF_NO    | by_worker                 | key:worker           |
EVIDENCE_SEEN       | verified                  | flag                 | the power to decide for them was seen
EXCEPT_1            | exceptions.0.kind         | code:consent_kind    | the opposite of KIND, for ...
EXCEPT_1_ORG_NO     | exceptions.0.organisation | key:organisation     | ... this organisation
EXCEPT_1_RECORD     | exceptions.0.record       | code:record_kind     | ... this kind of record
EXCEPT_2            | exceptions.1.kind         | code:consent_kind    |
EXCEPT_2_ORG_NO     | exceptions.1.organisation | key:organisation     |
EXCEPT_2_RECORD     | exceptions.1.record       | code:record_kind     |
STAFF_NO            | worker                    | key:worker           | who recorded it

= DELEGATE: delegate
DELEGATE_NO     | number          | key:delegate         |
PERSON_NO       | person          | key:person           |
RELATION_NO     | relationship    | key:relationship     | who may act for the person
ACTS_AS         | kind            | code:delegate_kind   |
STATUS          | status          | code:delegate_status |
DATE_FROM       | since           | date                 |
DATE_TO         | until           | date                 |
BY_PERSON_NO    | by_person       | key:person           | nominated by the person themself ...
BY_ORG_NO       | by_organisation | key:organisation     | ... or by a court, or under a registered power
EVIDENCE_SEEN   | verified        | flag                 | the order or registration was seen; blank if there is none
DATE_SEEN       | checked         | date                 |
RECORD_1        | records.0       | code:record_kind     | kinds of record they may see; blank: all of them
RECORD_2        | records.1       | code:record_kind     |
RECORD_3        | records.2       | code:record_kind     |
STAFF_NO        | worker          | key:worker           | who recorded it
"""
